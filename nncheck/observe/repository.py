"""Where files lie: in the user's repository, so that every output names them from its root, or elsewhere on the machine."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def root_of(folder: str) -> str:
    """The nearest parent of a folder, itself included, that holds `.git`; the folder itself where none does.

    In a worktree or submodule `.git` is a file. Symbolic links are followed.
    """
    start = Path(folder).resolve()
    return str(next((f for f in (start, *start.parents) if os.path.lexists(f / ".git")), start))


def folder_in_repository(folder: str = ".") -> str:
    """A folder as seen from the repository's root, with `/`; "" for the root itself."""
    relative = Path(folder).resolve().relative_to(root_of(os.path.abspath(folder)))
    return "" if relative == Path() else relative.as_posix()


@cache
def seen_from(file: str, folder: str) -> str:
    """A file as it is named from a folder: relative to it within the repository (`../` where need be), else absolute.

    Symbolic links are followed: the file that is in the repository is meant, not another name of it.
    """
    path, start = os.path.realpath(file), os.path.realpath(folder)
    root = root_of(start)
    try:
        inside = os.path.commonpath((path, root)) == root
    except ValueError:  # another drive
        inside = False
    return os.path.relpath(path, start) if inside else path


def file_of_target(typed: str, folder: str = ".") -> str:
    """The file that `a.py`, `a.py:NAME` or `package.module:NAME` names, as seen from the repository's root; "" if none in it."""
    dotted = typed.partition(":")[0].replace(".", "/")
    for name in (typed, typed.rpartition(":")[0], dotted + ".py", dotted + "/__init__.py"):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            file = seen_from(path, root_of(os.path.abspath(folder)))
            return "" if os.path.isabs(file) else Path(file).as_posix()
    return ""
