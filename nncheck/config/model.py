"""A configuration as plain data, whatever file it was read from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FailOn = Literal["fail", "warn", "never"]
Level = Literal["fail", "warn"]


@dataclass(frozen=True, kw_only=True)
class Accept:
    """A finding that a project lives with, and why.

    place: a glob over the names of places (`encoder.*.norm`) or over their files; empty: wherever the check finds something.
    target: a glob over the files of targets; empty: any. Files are as seen from the configuration's folder.
    until: the last day on which it holds. source: the file and line where it stands.
    """

    check: str
    reason: str
    place: str = ""
    target: str = ""
    until: datetime.date | None = None
    source: str = ""

    @property
    def what(self) -> str:
        """`dead-relu at encoder.* in models/big.py`."""
        place = f" at {self.place}" if self.place else ""
        return f"{self.check}{place}{f' in {self.target}' if self.target else ''}"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is in force for a target. path: the file it was read from; None if there is none. None: the file does not say.

    targets, exclude: paths and globs as seen from the file's folder. level: what a finding of a check counts as, by check.
    checklist: a person's notes on the items that only a person can tick, by item.
    sources: `nncheck.toml:3`, by key; of a target by its place in the list ("targets.0"), of a level by "level." and its check.
    """

    path: Path | None = None
    targets: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: FailOn | None = None
    budget: float | None = None
    seed: int | None = None
    level: Mapping[str, Level] = field(default_factory=dict)
    accept: tuple[Accept, ...] = ()
    checklist: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
