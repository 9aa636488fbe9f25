"""The project's own cache folder, `.nncheck_cache` in the repository's root: ignored by git, safe to delete."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nncheck.observe.repository import root_of

NAME = ".nncheck_cache"


def cache_folder() -> Path:
    """Where it is or would be, for the working directory."""
    return Path(root_of(os.getcwd())) / NAME


def make_cache_folder() -> Path:
    """The folder, made if need be with a `.gitignore` of its own. Raises OSError if that is not possible."""
    folder = cache_folder()
    folder.mkdir(exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        with contextlib.suppress(OSError):
            ignore.write_text("*\n", encoding="utf-8")
    return folder
