"""Targets: from `model.py`, `model.py:NAME` or `package.module` to a recipe."""

from __future__ import annotations

from collections.abc import Mapping

from nncheck.target.discovery import Found, discover
from nncheck.target.loading import import_target, parse_target
from nncheck.target.reading import read


def load_target(text: str, flags: Mapping[str, str] | None = None) -> Found:
    """Find, read, import and understand a target; to be called inside `loading.isolated()`.

    `flags` name parts: `{"model": "net"}`. Raises TargetError, pointing into the user's file, if any of that fails.
    """
    target = parse_target(text)
    reading = read(target.path)
    module = import_target(target, reading)
    return discover(module, reading, target, flags)


__all__ = ["Found", "load_target"]
