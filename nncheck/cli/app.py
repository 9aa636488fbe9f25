"""The application that the commands join, and what they share: how they end, and how they read a saved result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nncheck._version import __version__
from nncheck.errors import UsageError

if TYPE_CHECKING:
    from nncheck.verdict import Report

DEFAULT_REPORT = Path("nncheck-report.html")

app = typer.Typer(
    name="nncheck",
    help="Check a PyTorch training set-up before the long run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_own_process = False


def supervised() -> bool:
    """Whether this process is the `nncheck` command's own, so that it may fork and lead file descriptors aside."""
    return _own_process


def main() -> int:
    """The `nncheck` command."""
    global _own_process
    _own_process = True
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        return 130
    return 0


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


def stop(message: str) -> NoReturn:
    """One clear message; exit code 2."""
    from nncheck.report.terminal import printable

    typer.echo(f"nncheck: {printable(message)}", err=True)
    raise typer.Exit(2)


def read_result(path: Path) -> Report:
    from nncheck.report.json import from_json

    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
