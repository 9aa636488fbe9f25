"""The command line: parses, calls, prints. Nothing here imports torch; `run` does, after its first line is out."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from nncheck._version import __version__

if sys.argv[1:] == ["--version"]:  # the commonest question of scripts, answered before typer is imported
    print(f"nncheck {__version__}")
    raise SystemExit(0)

import typer

from nncheck.errors import TargetError, UsageError
from nncheck.options import (
    SCRIPT_ARGUMENTS,
    Capture,
    Device,
    DeviceChoice,
    FailOnChoice,
    JsonFile,
    NoReport,
    ReportFile,
    ScriptCommand,
    Seed,
    absolute,
    split_names,
    told,
)  # fmt: skip
from nncheck.target.names import FLAGS

if TYPE_CHECKING:
    from nncheck.verdict import Report

DEFAULT_REPORT = Path("nncheck-report.html")
RACE_REPORT = Path("nncheck-race.html")

_supervised = False


app = typer.Typer(
    name="nncheck",
    help="Check a PyTorch training set-up before the long run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nncheck {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _part(part: str, help: str) -> Any:
    return typer.Option(FLAGS[part], metavar="NAME", help=help, rich_help_panel=None)


@app.command(cls=ScriptCommand)
def run(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...", help="model.py, model.py:NAME, package.module, or train.py -- ITS ARGUMENTS"
        ),
    ],
    select: Annotated[list[str], typer.Option("--select", metavar="ID,...", help="Only these checks or stages.")] = [],  # noqa: B006  # typer reads the default and never changes it
    ignore: Annotated[list[str], typer.Option("--ignore", metavar="ID,...", help="Not these checks or stages.")] = [],  # noqa: B006
    report: ReportFile = DEFAULT_REPORT,
    no_report: NoReport = False,
    json: JsonFile = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="The result as JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", metavar="FILE", help="The findings as SARIF 2.1.0.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="The result as Markdown.")] = None,
    save_plots: Annotated[
        Path | None, typer.Option("--save-plots", metavar="DIR", help="Every picture as PNG and PDF.")
    ] = None,
    fail_on: Annotated[FailOnChoice, typer.Option("--fail-on", help="What makes the exit code 1.")] = FailOnChoice.FAIL,
    seed: Seed = 0,
    device: Device = DeviceChoice.AUTO,
    budget: Annotated[
        float, typer.Option("--budget", metavar="SECONDS", help="Time for the whole run; checks left then are skipped.")
    ] = 600.0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Findings and the last line only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="More of everything.")] = False,
    full_traceback: Annotated[
        bool, typer.Option("--full-traceback", help="Every frame of a failure, not only the user's.")
    ] = False,
    model: Annotated[str | None, _part("model", "The name of the model in the file.")] = None,
    train_loader: Annotated[str | None, _part("train_loader", "... of the training loader.")] = None,
    val_loader: Annotated[str | None, _part("val_loader", "... of the validation loader.")] = None,
    loss: Annotated[str | None, _part("loss_fn", "... of the loss function.")] = None,
    optimizer: Annotated[str | None, _part("optimizer", "... of the optimizer.")] = None,
    scheduler: Annotated[str | None, _part("scheduler", "... of the scheduler.")] = None,
    training_step: Annotated[str | None, _part("training_step", "... of training_step(model, batch) -> loss.")] = None,
    train_step: Annotated[str | None, _part("train_step", "... of a function that does the whole step.")] = None,
    epochs: Annotated[str | None, _part("epochs", "How many epochs the real run has.")] = None,
    capture: Capture = None,
) -> None:
    """Check one or more targets; the exit code is 0 (clean), 1 (findings), 2 (could not run) or 130 (interrupted)."""
    from nncheck.config import config_for
    from nncheck.process import session
    from nncheck.registry import select as choose

    arguments = ctx.meta.get(SCRIPT_ARGUMENTS)
    if arguments is not None and len(targets) > 1:
        _stop(f"what follows -- belongs to one script, but {len(targets)} targets are named")
    if arguments is not None and capture is False:
        _stop("what follows -- are a script's arguments, and --no-capture forbids to run one")
    if budget <= 0:
        _stop(f"--budget {budget:g}: a time above 0 s is needed")
    named = {
        "model": model, "train_loader": train_loader, "val_loader": val_loader, "loss_fn": loss, "optimizer": optimizer,
        "scheduler": scheduler, "training_step": training_step, "train_step": train_step, "epochs": epochs,
    }  # fmt: skip
    try:
        options = session.Options(
            targets=tuple(targets),
            flags={part: name for part, name in named.items() if name is not None},
            selected=choose(split_names(select), split_names(ignore)),
            report=None if no_report else report.absolute(),
            json="-" if json == "-" else absolute(json),
            junit=absolute(junit),
            sarif=absolute(sarif),
            markdown=absolute(markdown),
            save_plots=absolute(save_plots),
            fail_on=fail_on.value,
            seed=seed,
            device=device.value,
            budget=budget,
            quiet=quiet,
            verbose=verbose,
            full_traceback=full_traceback,
            command=shlex.join(["nncheck", *sys.argv[1:]]) if _supervised else "nncheck run",
            checklist={target: config_for(target).checklist for target in targets},
            capture=True if arguments is not None else capture,
            arguments=tuple(arguments or ()),
        )
        if _supervised and hasattr(os, "fork"):
            from nncheck.process import supervisor

            raise typer.Exit(supervisor.run(options))
        raise typer.Exit(session.run(options, descriptors=_supervised))
    except (UsageError, TargetError) as error:
        _stop(str(error))


@app.command(cls=ScriptCommand)
def race(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="As for `nncheck run`.")],
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Updates of each run.")] = 100,
    report: ReportFile = RACE_REPORT,
    no_report: NoReport = False,
    json: JsonFile = None,
    seed: Seed = 0,
    device: Device = DeviceChoice.AUTO,
    budget: Annotated[float, typer.Option("--budget", metavar="SECONDS", help="Time for the whole race.")] = 300.0,
) -> None:
    """Race the classic optimizers on your own task. A short race favours those that start fast."""
    from nncheck.process import racing, session

    if budget <= 0 or steps < 2:
        _stop(f"--budget {budget:g} --steps {steps}: a time above 0 s and at least two updates are needed")
    options = session.Options(
        targets=(target,),
        selected=frozenset(),
        report=None if no_report else report.absolute(),
        json="-" if json == "-" else absolute(json),
        fail_on="never",
        seed=seed,
        device=device.value,
        budget=budget,
        command=shlex.join(["nncheck", *sys.argv[1:]]) if _supervised else "nncheck race",
        capture=True if SCRIPT_ARGUMENTS in ctx.meta else None,
        arguments=tuple(ctx.meta.get(SCRIPT_ARGUMENTS, ())),
    )
    try:
        raise typer.Exit(racing.run(target, options, steps=steps, descriptors=_supervised))
    except (UsageError, TargetError) as error:
        _stop(told(error))


@app.command("list")
def list_checks() -> None:
    """List every check with its stage."""
    from nncheck.registry import catalogue

    entries = catalogue()
    width = max((len(entry.id) for entry in entries), default=0)
    stage = None
    for entry in entries:
        if entry.stage is not stage:
            stage = entry.stage
            typer.echo(str(stage))
        typer.echo(f"  {entry.id:{width}}  {entry.doc.title}")


@app.command()
def checklist(
    target: Annotated[str, typer.Argument(metavar="[TARGET]", help="Whose nncheck.toml holds the ticks.")] = ".",
    result: Annotated[
        Path | None,
        typer.Option("--result", metavar="RESULT.json", help="A run's result: its checks tick their items."),
    ] = None,
) -> None:
    """Print the whole recipe, ticked: by the checks of a run, and by you in nncheck.toml."""
    from nncheck.checklist import checklist_lines, tick
    from nncheck.config import config_for

    try:
        config = config_for(target)
        checks = {} if result is None else {c.id: c.status for t in _read_result(result).targets for c in t.checks}
    except UsageError as error:
        _stop(told(error))
    for line in checklist_lines(tick(checks, config.checklist), path=config.path, asked=result is not None):
        typer.echo(line)


@app.command()
def explain(check: Annotated[str, typer.Argument(metavar="CHECK", help="A check's id, e.g. loss-at-init.")]) -> None:
    """Say what a check does, why it matters and how to fix what it finds."""
    from nncheck.registry import catalogue, select

    try:
        select((check,), ())
    except UsageError as error:
        _stop(str(error))
    chosen = [entry for entry in catalogue() if check in (entry.id, entry.stage)]
    for number, entry in enumerate(chosen):
        if number:
            typer.echo()
        doc = entry.doc
        typer.echo(f"{entry.id} ({entry.stage}): {doc.title}")
        for head, text in (
            ("What it does", doc.what), ("Why it matters", doc.why), ("How to fix", doc.fix),
            ("Known limits", doc.limits), ("Source", doc.source),
        ):  # fmt: skip
            typer.echo(f"\n{head}\n" + "\n".join(f"    {line}".rstrip() for line in text.splitlines()))


@app.command(cls=ScriptCommand)
def init(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="A training file to start from; a script is run to its first step: train.py -- ARGS"),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("nncheck_setup.py"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    device: Device = DeviceChoice.AUTO,
    budget: Annotated[
        float, typer.Option("--budget", metavar="SECONDS", help="Time for a script's way to its step.")
    ] = 120.0,
    capture: Capture = None,
) -> None:
    """Write a file that binds the parts of a set-up, filled in with what TARGET builds."""
    from nncheck.process.writing import write_text, written_setup

    if output.exists() and not force:
        _stop(f"{output} exists already; choose another with -o, or overwrite it with --force")
    arguments = ctx.meta.get(SCRIPT_ARGUMENTS)
    try:
        text, said = written_setup(
            target, output, capture=True if arguments is not None else capture, arguments=tuple(arguments or ()),
            cpu=device is DeviceChoice.CPU, budget=budget, descriptors=_supervised,
        )  # fmt: skip
        write_text(output.absolute(), text)
    except (UsageError, TargetError) as error:
        new = target is not None and target.endswith(".py") and not Path(target).exists()
        _stop(told(error) + (f"; to write a new file: nncheck init -o {target}" if new else ""))
    for line in said:
        typer.echo(line)
    missing = "fill in what is marked, then " if "..." in text or "# Missing" in text or target is None else ""
    typer.echo(f"wrote {output}: {missing}`nncheck run {output}`")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="The example file.")] = Path("nncheck_demo.py"),
) -> None:
    """Write a small example with a planted fault, and check it."""
    from nncheck.process import session, supervisor
    from nncheck.registry import select

    source = (Path(__file__).parent / "target" / "demo_example.py").read_text(encoding="utf-8")
    if output.exists() and output.read_text(encoding="utf-8") != source:
        typer.echo(f"{output} is there and has been changed: it is checked as it is", err=True)
    else:
        try:
            session.write_text(output.absolute(), source)
        except UsageError as error:
            _stop(str(error))
    options = session.Options(
        targets=(str(output),),
        selected=select((), ()),
        report=DEFAULT_REPORT.absolute(),
        fail_on="never",
        command=f"nncheck run {shlex.quote(str(output))}",
    )
    code = (
        supervisor.run(options)
        if _supervised and hasattr(os, "fork")
        else session.run(options, descriptors=_supervised)
    )
    typer.echo(f"The fault is planted: {output} says where. Mend it, then `nncheck run {output}`.")
    raise typer.Exit(code)


@app.command()
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="What `nncheck run --json` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.html", help="The page.")] = DEFAULT_REPORT,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="The result as Markdown.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="The result as JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", metavar="FILE", help="The findings as SARIF 2.1.0.")] = None,
) -> None:
    """Render a saved result again, without torch."""
    from nncheck.process import session

    try:
        options = session.Options(
            targets=(),
            selected=frozenset(),
            report=output.absolute(),
            markdown=absolute(markdown),
            junit=absolute(junit),
            sarif=absolute(sarif),
        )
        written = session.write_outputs(_read_result(result), options)
    except UsageError as error:
        _stop(str(error))
    for name, path in written.items():
        typer.echo(f"{name}: {path}")


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="An earlier result.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="A later result.")],
) -> None:
    """Say what two results differ in; the exit code is 1 if something is new or worse."""
    from nncheck.report.diff import compare

    try:
        change = compare(_read_result(before), _read_result(after))
    except UsageError as error:
        _stop(str(error))
    for line in change.lines:
        typer.echo(line)
    raise typer.Exit(1 if change.worse else 0)


def _read_result(path: Path) -> Report:
    from nncheck.report.json import from_json

    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _stop(message: str) -> NoReturn:
    """One clear message; exit code 2."""
    from nncheck.report.terminal import printable

    typer.echo(f"nncheck: {printable(message)}", err=True)
    raise typer.Exit(2)


def main() -> int:
    """The `nncheck` command."""
    global _supervised
    _supervised = True
    try:
        app()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return 130
    return 0
