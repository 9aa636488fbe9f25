"""The targets that a configuration lists: paths and globs to what `nncheck run` takes."""

from __future__ import annotations

import glob
import os
import shlex
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from nncheck.config.model import Config
from nncheck.config.reading import did_you_mean
from nncheck.errors import UsageError

SUFFIXES = (".py", ".pyw", ".ipynb")


def listed(config: Config, start: Path | None = None) -> tuple[str, ...]:
    """The targets in the order of the list, those of a glob by name, as a person types them in `start` or the working directory.

    A glob means Python files and notebooks: no `__init__.py`, nothing in a hidden folder. What `exclude` names is left out.
    Raises UsageError, with file and line, for a path that does not exist and a glob that matches nothing.
    """
    if config.path is None:
        return ()
    folder = config.path.parent
    found: dict[str, None] = {}
    for n, entry in enumerate(config.targets):
        found |= dict.fromkeys(_meant(entry, folder, config.sources.get(f"targets.{n}", str(config.path))))
    kept = [text for text in found if not _excluded(text, config.exclude)]
    if found and not kept:
        raise UsageError(f"{config.sources.get('exclude', config.path)}: exclude leaves none of the targets")
    return tuple(_typed(text, folder, start) for text in kept)


def is_gone(pattern: str, folder: Path) -> bool:
    """Whether no file is left that a target's path or glob could mean."""
    file, _ = split_name(pattern)
    if not is_file_name(file) or (folder / file).exists():
        return False
    return next(glob.iglob(file, root_dir=folder, recursive=True), None) is None


def split_name(target: str) -> tuple[str, str]:
    """`models/a.py:build` as file and `:build`; a dotted module has no file and stays whole."""
    file, colon, name = target.rpartition(":")
    if colon and name.replace(".", "").isidentifier():
        return file, f":{name}"
    return target, ""


def split_arguments(target: str) -> tuple[str, tuple[str, ...] | None]:
    """`train.py -- --epochs 3` as the script and its own arguments; None where there is no `--`. Raises UsageError."""
    name, dashes, rest = f"{target} ".partition(" -- ")
    try:
        return name.strip(), tuple(shlex.split(rest)) if dashes else None
    except ValueError as error:
        raise UsageError(f"{target}: {error}") from error


def is_file_name(target: str) -> bool:
    """Whether a target's text, without a name after a colon, means a file and no dotted module."""
    return target.endswith(SUFFIXES) or "/" in target or os.sep in target or glob.has_magic(target)


def _meant(entry: str, folder: Path, where: str) -> list[str]:
    """What an entry stands for, as seen from the configuration's folder."""
    entry, arguments = split_arguments(entry)
    if arguments is not None:
        return [f"{file} -- {shlex.join(arguments)}" for file in _meant(entry, folder, where)]
    location, name = split_name(entry)
    path = folder / location
    if not is_file_name(location) and (not path.is_dir() or (path / "__init__.py").is_file()):
        return [entry]  # a module: found from the working directory, as on the command line
    if glob.has_magic(location) and not path.is_file():
        found = sorted(
            PurePath(file).as_posix()
            for file in glob.iglob(location, root_dir=folder, recursive=True)
            if file.endswith(SUFFIXES) and PurePath(file).name != "__init__.py" and (folder / file).is_file()
        )
        if not found:
            raise UsageError(f"{where}: no Python file matches {location!r} in {folder}")
        return [file + name for file in found]
    if path.is_dir():
        raise UsageError(f'{where}: {location} is a folder; its files are "{location.rstrip("/")}/*.py"')
    if not path.is_file():
        here = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = did_you_mean(path.name, here, "")
        raise UsageError(f"{where}: there is no file {location}{'; ' if close else ''}{close}")
    return [PurePath(os.path.normpath(location)).as_posix() + name]


def _excluded(target: str, patterns: tuple[str, ...]) -> bool:
    file, _ = split_name(split_arguments(target)[0])
    return any(target == pattern or matches(file, pattern) for pattern in patterns)


def matches(file: str, pattern: str) -> bool:
    """Whether a path fits a glob, both as seen from the configuration's folder. A folder means all that lies in it."""
    parts, wanted = PurePath(file).parts, PurePath(os.path.normpath(pattern)).parts
    return any(_fits(parts[:n], wanted) for n in range(1, len(parts) + 1))


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[n:], wanted[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def _typed(text: str, folder: Path, start: Path | None) -> str:
    whole, dashes, arguments = text.partition(" -- ")
    location, name = split_name(whole)
    typed = os.path.relpath(folder / location, start) + name if is_file_name(location) else whole
    return typed + dashes + arguments
