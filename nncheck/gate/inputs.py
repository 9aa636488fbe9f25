"""What a run of a target has read, as plain data: written down when it was read, and compared when it is to be believed again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

Glance = tuple[int, int, int, int]
"""Size, time of the last writing, time of the last change of any kind (which nobody can set back), and node of a file. Where it is
as it was a library's file is; where not, its contents are compared. Of the user's own files the contents are always compared."""


class Unreadable(Exception):
    """A file whose contents cannot be compared, and why."""


@dataclass(kw_only=True)
class Inputs:
    """Everything a target's run depended on besides what `surroundings` tells.

    files: hash by path; "" for one that was looked for and not there, "/" for a folder. stats: type, size and time of those that
    were asked for more than whether they are there. folders: hash of the names and sizes of what was listed. names: last parts of
    the names of all modules that were asked for; modules: by folder of the import path, what lies there under one of them.
    libraries: glance and hash.
    variables: hash of each variable of the environment that was read, "" if unset; names that end in * stand for all that begin so.
    """

    files: dict[str, str] = field(default_factory=dict)
    stats: dict[str, list[int]] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    modules: dict[str, list[str]] = field(default_factory=dict)
    libraries: dict[str, tuple[Glance, str]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def changed(inputs: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """What is no longer as it was, in words; None if everything is.

    Raises KeyError, TypeError or ValueError for what is no `Inputs`, and Unreadable.
    """
    for name, digest in inputs["variables"].items():
        if variable_digest(environment, name) != digest:
            return f"the environment ({name})"
    for path, digest in inputs["files"].items():
        if file_digest(path) != digest:
            return str(path)
    for path, seen in inputs["stats"].items():
        if look(path) != seen:
            return str(path)
    for folder, digest in inputs["folders"].items():
        if folder_digest(folder) != digest:
            return f"{folder}{os.sep}"
    names = frozenset(inputs["names"])
    for folder, found in inputs["modules"].items():
        if candidates(folder, names) != found:
            return f"the modules in {folder}"
    for path, (glance, digest) in inputs["libraries"].items():
        if list(glance_at(path) or ()) != list(glance) and file_digest(path) != digest:
            return str(path)
    return None


def file_digest(path: str) -> str:
    """The hash of a file's contents; "" if it is not there, "/" for a folder. Raises Unreadable for anything else."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read again") from error
    if stat.S_ISDIR(mode):
        return "/"
    if not stat.S_ISREG(mode):
        raise Unreadable(f"{path} is no ordinary file")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read again") from error


def look(path: str) -> list[int]:
    """Type, size and time of change of a file's contents; empty if it is not there."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return []
    return [stat.S_IFMT(seen.st_mode), seen.st_size, seen.st_mtime_ns]


def glance_at(path: str) -> Glance | None:
    """What tells without reading it that a file is the same."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino


def folder_digest(path: str) -> str:
    """The hash of what a listing of a folder tells: names, what is a folder, and sizes; "" if it cannot be listed."""
    try:
        with os.scandir(path) as entries:
            lines = sorted(
                f"{entry.name}/" if entry.is_dir() else f"{entry.name} {entry.stat(follow_symlinks=False).st_size}"
                for entry in entries
                if not entry.name.startswith(_NO_DATA)
            )
    except (OSError, ValueError):
        return ""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def candidates(folder: str, names: Set[str]) -> list[str]:
    """What a folder of the import path holds under one of these modules' names."""
    try:
        return sorted(entry for entry in os.listdir(folder) if entry.partition(".")[0] in names)
    except OSError:
        return []


def variable_digest(environment: Mapping[str, str], name: str) -> str:
    """The hash of a variable, or of all that begin with what stands before a *: what it says is nobody's business."""
    if not name.endswith("*"):
        value = environment.get(name)
        return "" if value is None else _hash(value)
    start = name[:-1]
    said = sorted(f"{n}={v}" for n, v in environment.items() if n.startswith(start) and n not in OF_THE_SHELL)
    return _hash("\0".join(said)) if said else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


# What nncheck writes itself, and Python.
_NO_DATA = ("nncheck-", ".nncheck_cache", "__pycache__")

# They change with every command. The folder is part of the question.
OF_THE_SHELL = frozenset({"_", "SHLVL", "OLDPWD", "PWD", "COLUMNS", "LINES"})
