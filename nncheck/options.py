"""Options that several commands share, as typer reads them. No torch: `--help` is to be quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random number.")]
Device = Annotated[DeviceChoice, typer.Option("--device", help="auto: where the file puts the model.")]
