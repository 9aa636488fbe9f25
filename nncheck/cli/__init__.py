"""The command line: parses, calls, prints. Nothing here imports torch; `run` does, after its first line is out."""

import sys

from nncheck._version import __version__

if sys.argv[1:] == ["--version"]:  # the commonest question of scripts, answered before typer is imported
    print(f"nncheck {__version__}")
    raise SystemExit(0)

# In the order in which `--help` lists the commands.
from nncheck.cli import run as run, setup as setup, about as about, saved as saved  # isort: skip
from nncheck.cli.app import app, main

__all__ = ["app", "main"]
