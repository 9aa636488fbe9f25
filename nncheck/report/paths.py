"""Paths as the repository's root sees them: what a review, a code scan or an annotation is placed by.

All from the result alone, so that a result saved on one machine is rendered on another.
"""

from __future__ import annotations

import posixpath
import re

from nncheck.verdict import Report, TargetResult

# Home folders: of Linux, macOS and Windows, and root's own.
_HOME = re.compile(
    r"(?<![\w./\\~-])(?:/home/[^/\s\"':]+|/Users/[^/\s\"':]+|/root|[A-Za-z]:[\\/]Users[\\/][^\\/\s\"':]+)(?=[\\/])"
)

# `gan.py [Adam of netD]`: a script with several optimizers has a result for each.
_LABEL = re.compile(r" \[([^][]+ of [^][]+)\]$")


def from_root(report: Report, file: str) -> str | None:
    """A place's file relative to the repository's root, with slashes; None if it lies outside."""
    windows = report.environment.get("platform", "").startswith("Windows")
    path = file.replace("\\", "/") if windows else file
    if posixpath.isabs(path) or re.match(r"[A-Za-z]:[\\/]", file) or file.startswith("<"):
        return None
    whole = posixpath.normpath(posixpath.join(report.folder, path))
    return None if whole in ("..", ".") or whole.startswith("../") else whole


def target_file(report: Report, target: TargetResult) -> str | None:
    """The file that was asked about, relative to the repository's root; None if it lies outside or nothing names one."""
    if target.file:
        return target.file
    match = re.match(r"(.+\.(?:py|ipynb))(?::[\w.]+)?$", split_target(target.target)[0])
    return None if match is None else from_root(report, match.group(1))


def split_target(target: str) -> tuple[str, str]:
    """What was typed without the script's own arguments, and which of its optimizers: `gan.py`, `Adam of netD`."""
    label = _LABEL.search(target)
    typed = target[: label.start()] if label else target
    return typed.partition(" -- ")[0], label.group(1) if label else ""


def without_home(text: str) -> str:
    """The text with every home folder in it as `~`: it names a person, and the machine is nobody's business."""
    return _HOME.sub("~", text)
