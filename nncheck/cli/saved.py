"""`nncheck report` and `nncheck diff`: what is made of saved results, without torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nncheck.cli.app import DEFAULT_REPORT, app, read_result, stop
from nncheck.cli.options import BundleData, BundleFile, GitlabFile, JunitFile, MarkdownFile, SarifFile, absolute
from nncheck.errors import UsageError
from nncheck.report.terminal import printable


@app.command()
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="What `nncheck run --json` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.html", help="The page.")] = DEFAULT_REPORT,
    markdown: MarkdownFile = None,
    junit: JunitFile = None,
    sarif: SarifFile = None,
    gitlab: GitlabFile = None,
    bundle: BundleFile = None,
    bundle_data: BundleData = False,
    github: Annotated[
        bool, typer.Option("--github", help="Print GitHub's annotations, and append to $GITHUB_STEP_SUMMARY.")
    ] = False,
) -> None:
    """Render a saved result again, without torch."""
    from nncheck.process.outputs import Outputs, publish, write_outputs

    outputs = Outputs(
        report=output.absolute(),
        markdown=absolute(markdown),
        junit=absolute(junit),
        sarif=absolute(sarif),
        gitlab=absolute(gitlab),
        bundle=absolute(bundle),
        bundle_data=bundle_data,
    )
    try:
        saved = read_result(result)
        written = write_outputs(saved, outputs)
    except UsageError as error:
        stop(str(error))
    for name, path in written.items():
        typer.echo(f"{name}: {path}")
    if github:
        publish(saved, outputs, sys.stdout)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="An earlier result.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="A later result.")],
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="The differences as JSON; - is standard output.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="The differences as Markdown.")
    ] = None,
) -> None:
    """Say what two results differ in; the exit code is 1 if something is new or worse."""
    from nncheck.process.outputs import write_text
    from nncheck.report.diff import compare, diff_json, diff_lines, diff_markdown

    try:
        change = compare(read_result(before), read_result(after))
        if json is not None and json != "-":
            write_text(Path(json).absolute(), diff_json(change))
        if markdown is not None:
            write_text(markdown.absolute(), diff_markdown(change))
    except UsageError as error:
        stop(str(error))
    if json == "-":
        typer.echo(diff_json(change), nl=False)
    else:
        for line in diff_lines(change):
            typer.echo(printable(line))
    raise typer.Exit(1 if change.worse else 0)
