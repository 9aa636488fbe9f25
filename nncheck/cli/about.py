"""`nncheck list`, `explain`, `config` and `checklist`: what there is to check, what is in force, and what is done."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from nncheck.cli.app import app, read_result, stop
from nncheck.cli.options import told
from nncheck.errors import UsageError


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
def config(
    target: Annotated[str, typer.Argument(metavar="[TARGET]", help="Whose configuration; else this folder's.")] = ".",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print what is in force without options, and where each value came from."""
    from nncheck.config import config_for
    from nncheck.config.telling import config_data, config_lines
    from nncheck.report.terminal import printable

    try:
        found = config_for(target)
        text = dumps(config_data(found), indent=1) if json else "\n".join(map(printable, config_lines(found)))
    except UsageError as error:
        stop(told(error))
    typer.echo(text)


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
        ticks = config_for(target)
        checks = {} if result is None else {c.id: c.status for t in read_result(result).targets for c in t.checks}
    except UsageError as error:
        stop(told(error))
    for line in checklist_lines(tick(checks, ticks.checklist), path=ticks.path, asked=result is not None):
        typer.echo(line)


@app.command()
def explain(check: Annotated[str, typer.Argument(metavar="CHECK", help="A check's id, e.g. loss-at-init.")]) -> None:
    """Say what a check does, why it matters and how to fix what it finds."""
    from nncheck.registry import catalogue, select

    try:
        select((check,), ())
    except UsageError as error:
        stop(str(error))
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
