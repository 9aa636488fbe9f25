"""Options that several commands share, as typer reads them. No torch: `--help` is to be quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core


class FailOnChoice(StrEnum):
    """What `--fail-on` takes."""

    FAIL = "fail"
    WARN = "warn"
    NEVER = "never"


class DeviceChoice(StrEnum):
    """What `--device` takes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


ReportFile = Annotated[Path, typer.Option("--report", metavar="FILE.html", help="The HTML report.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no HTML report.")]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="The result as JSON; - is standard output.")
]
JunitFile = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="The result as JUnit XML.")]
SarifFile = Annotated[Path | None, typer.Option("--sarif", metavar="FILE", help="The findings as SARIF 2.1.0.")]
GitlabFile = Annotated[
    Path | None, typer.Option("--gitlab", metavar="FILE", help="The findings as GitLab's code quality report.")
]
MarkdownFile = Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="The result as Markdown.")]
BundleFile = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="FILE.zip", help="Result, report, source lines and reproduce.py, for a bug report."
    ),
]
BundleData = Annotated[
    bool, typer.Option("--bundle-data", help="... with samples of the data, error messages and what your code printed.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random number.")]
Device = Annotated[DeviceChoice, typer.Option("--device", help="auto: where the file puts the model.")]

Capture = Annotated[
    bool | None, typer.Option("--capture/--no-capture", help="Run the file as a training script, or never.")
]

SCRIPT_ARGUMENTS = "nncheck.script_arguments"


class ScriptCommand(typer.core.TyperCommand):
    """Sets aside what follows `--`: a script's own arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            ctx.meta[SCRIPT_ARGUMENTS] = args[args.index("--") + 1 :]
            args = args[: args.index("--")]
        return super().parse_args(ctx, args)


def split_names(lists: list[str]) -> tuple[str, ...]:
    """Names given one by one or between commas."""
    return tuple(name.strip() for text in lists for name in text.split(",") if name.strip())


def absolute(path: str | Path | None) -> Path | None:
    """A path that stays the same when the folder changes."""
    return None if path is None else Path(path).absolute()


def told(error: Exception) -> str:
    """An error and what helps, for people."""
    help = getattr(error, "help", "")
    return f"{error}\n  help: {help}" if help else str(error)
