"""`nncheck init` and `nncheck demo`: files to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

import nncheck
from nncheck.cli.app import DEFAULT_REPORT, app, stop, supervised
from nncheck.cli.options import SCRIPT_ARGUMENTS, Capture, Device, DeviceChoice, ScriptCommand, told
from nncheck.errors import TargetError, UsageError


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
    from nncheck.process.outputs import write_text
    from nncheck.process.writing import written_setup

    if output.exists() and not force:
        stop(f"{output} exists already; choose another with -o, or overwrite it with --force")
    arguments = ctx.meta.get(SCRIPT_ARGUMENTS)
    try:
        text, said = written_setup(
            target, output, capture=True if arguments is not None else capture, arguments=tuple(arguments or ()),
            cpu=device is DeviceChoice.CPU, budget=budget, descriptors=supervised(),
        )  # fmt: skip
        write_text(output.absolute(), text)
    except (UsageError, TargetError) as error:
        new = target is not None and target.endswith(".py") and not Path(target).exists()
        stop(told(error) + (f"; to write a new file: nncheck init -o {target}" if new else ""))
    for line in said:
        typer.echo(line)
    missing = "fill in what is marked, then " if "..." in text or "# Missing" in text or target is None else ""
    typer.echo(f"wrote {output}: {missing}`nncheck run {output}`")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="The example file.")] = Path("nncheck_demo.py"),
) -> None:
    """Write a small example with a planted fault, and check it."""
    from nncheck.config import config_for
    from nncheck.process import session, start
    from nncheck.process.outputs import Outputs, write_text
    from nncheck.registry import select

    source = (Path(nncheck.__file__).parent / "target" / "demo_example.py").read_text(encoding="utf-8")
    if output.exists() and output.read_text(encoding="utf-8") != source:
        typer.echo(f"{output} is there and has been changed: it is checked as it is", err=True)
    else:
        try:
            write_text(output.absolute(), source)
        except UsageError as error:
            stop(str(error))
    options = session.Options(
        jobs=(session.Job(target=str(output), selected=select((), ()), config=config_for(str(output))),),
        outputs=Outputs(report=DEFAULT_REPORT.absolute()),
        fail_on="never",
        command=f"nncheck run {shlex.quote(str(output))}",
    )
    code = start.run(options, own_process=supervised())
    typer.echo(f"The fault is planted: {output} says where. Mend it, then `nncheck run {output}`.")
    raise typer.Exit(code)
