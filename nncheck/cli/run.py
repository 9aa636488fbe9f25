"""`nncheck run` and `nncheck race`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncheck.cli.app import DEFAULT_REPORT, app, stop, supervised
from nncheck.cli.options import (
    SCRIPT_ARGUMENTS,
    BundleData,
    BundleFile,
    Capture,
    Device,
    DeviceChoice,
    FailOnChoice,
    GitlabFile,
    JsonFile,
    JunitFile,
    MarkdownFile,
    NoReport,
    ReportFile,
    SarifFile,
    ScriptCommand,
    Seed,
    absolute,
    split_names,
    told,
)  # fmt: skip
from nncheck.config import Config, config_for
from nncheck.config.settings import Given, selected_for, settings_for, targets_or_listed
from nncheck.config.targets import split_arguments
from nncheck.errors import TargetError, UsageError
from nncheck.target.names import FLAGS

if TYPE_CHECKING:
    from nncheck.process.session import Job

RACE_REPORT = Path("nncheck-race.html")


def _part(part: str, help: str) -> Any:
    return typer.Option(FLAGS[part], metavar="NAME", help=help, rich_help_panel=None)


@app.command(cls=ScriptCommand)
def run(
    ctx: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="model.py, model.py:NAME, package.module, or train.py -- ITS ARGUMENTS; none: those that nncheck.toml lists",
        ),
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="ID,...", help="Only these checks or stages.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="ID,...", help="Not these checks or stages.")
    ] = None,
    report: ReportFile = DEFAULT_REPORT,
    no_report: NoReport = False,
    json: JsonFile = None,
    junit: JunitFile = None,
    sarif: SarifFile = None,
    gitlab: GitlabFile = None,
    markdown: MarkdownFile = None,
    bundle: BundleFile = None,
    bundle_data: BundleData = False,
    save_plots: Annotated[
        Path | None, typer.Option("--save-plots", metavar="DIR", help="Every picture as PNG and PDF.")
    ] = None,
    fail_on: Annotated[
        FailOnChoice | None, typer.Option("--fail-on", show_default="fail", help="What makes the exit code 1.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", show_default="0", help="Seed of every random number.")
    ] = None,
    device: Device = DeviceChoice.AUTO,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="SECONDS",
            show_default="600",
            help="Time for the whole run; checks left then are skipped.",
        ),
    ] = None,
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
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Only findings that are not in it fail.")
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write what is found now to the file of --baseline.")
    ] = False,
    last_failed: Annotated[
        bool, typer.Option("--last-failed", help="Only the checks that found something in the last run.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, show_default="one a core", help="So many targets side by side."),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Do not run a target again of which nothing has changed.")
    ] = False,
) -> None:
    """Check one or more targets; the exit code is 0 (clean), 1 (findings), 2 (could not run) or 130 (interrupted)."""
    from nncheck.gate.baseline import read_baseline
    from nncheck.process import session, start
    from nncheck.process.memory import only_last_failed
    from nncheck.process.outputs import Outputs

    arguments = _script_arguments(ctx)
    if arguments is not None and len(targets or ()) != 1:
        stop(f"what follows -- belongs to one script, but {len(targets or ())} targets are named")
    if arguments is not None and capture is False:
        stop("what follows -- are a script's arguments, and --no-capture forbids to run one")
    if update_baseline and baseline is None:
        stop("--update-baseline writes the file that --baseline names: add --baseline nncheck-baseline.json")
    if budget is not None and budget <= 0:
        stop(f"--budget {budget:g}: a time above 0 s is needed")
    named = {
        "model": model, "train_loader": train_loader, "val_loader": val_loader, "loss_fn": loss, "optimizer": optimizer,
        "scheduler": scheduler, "training_step": training_step, "train_step": train_step, "epochs": epochs,
    }  # fmt: skip
    try:
        if baseline is not None and (baseline.exists() or not update_baseline):
            read_baseline(baseline)  # told now, not after the run
        given = Given(
            select=None if select is None else split_names(select),
            ignore=None if ignore is None else split_names(ignore),
            fail_on=None if fail_on is None else fail_on.value,
            budget=budget,
            seed=seed,
        )
        asked = _jobs(tuple(targets or ()), given, arguments)
        if last_failed:
            asked, remembered = only_last_failed(asked)
            typer.echo(
                f"--last-failed: {_narrowed(asked) if remembered else 'nothing is remembered; everything is asked'}"
            )
        settings = settings_for(tuple(job.config for job in asked), given)
        options = session.Options(
            jobs=asked,
            flags={part: name for part, name in named.items() if name is not None},
            outputs=Outputs(
                report=None if no_report else report.absolute(),
                json="-" if json == "-" else absolute(json),
                junit=absolute(junit),
                sarif=absolute(sarif),
                gitlab=absolute(gitlab),
                markdown=absolute(markdown),
                bundle=absolute(bundle),
                bundle_data=bundle_data,
                save_plots=absolute(save_plots),
            ),
            fail_on=settings.fail_on,
            seed=settings.seed,
            device=device.value,
            budget=settings.budget,
            quiet=quiet,
            verbose=verbose,
            full_traceback=full_traceback,
            command=shlex.join(["nncheck", *sys.argv[1:]]) if supervised() else "nncheck run",
            capture=capture,
            baseline=None if baseline is None else baseline.absolute(),
            update_baseline=update_baseline,
            at_once=jobs,
            cache=cache,
        )
        raise typer.Exit(start.run(options, own_process=supervised()))
    except (UsageError, TargetError) as error:
        stop(str(error))


def _narrowed(jobs: tuple[Job, ...]) -> str:
    return "; ".join(f"{job.target}: {', '.join(sorted(job.selected))}" for job in jobs)


def _script_arguments(ctx: typer.Context) -> tuple[str, ...] | None:
    given = ctx.meta.get(SCRIPT_ARGUMENTS)
    return None if given is None else tuple(given)


def _jobs(targets: tuple[str, ...], given: Given, arguments: tuple[str, ...] | None) -> tuple[Job, ...]:
    """Each target with its own configuration and the checks that are asked of it; a listed script may bring its arguments."""
    from nncheck.process.session import Job, distinct

    jobs = []
    for text in targets_or_listed(targets):
        target, listed = split_arguments(text)
        config = config_for(target)
        own = listed if arguments is None else arguments
        jobs.append(Job(target=target, selected=selected_for(config, given), config=config, arguments=own))
    return distinct(jobs)


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
    from nncheck.process.outputs import Outputs

    if budget <= 0 or steps < 2:
        stop(f"--budget {budget:g} --steps {steps}: a time above 0 s and at least two updates are needed")
    options = session.Options(
        jobs=(session.Job(target=target, selected=frozenset(), config=Config(), arguments=_script_arguments(ctx)),),
        outputs=Outputs(report=None if no_report else report.absolute(), json="-" if json == "-" else absolute(json)),
        fail_on="never",
        seed=seed,
        device=device.value,
        budget=budget,
        command=shlex.join(["nncheck", *sys.argv[1:]]) if supervised() else "nncheck race",
    )
    try:
        raise typer.Exit(racing.run(options, steps=steps, descriptors=supervised()))
    except (UsageError, TargetError) as error:
        stop(told(error))
