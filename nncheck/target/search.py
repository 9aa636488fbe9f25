"""What has been found of a file's parts so far."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from nncheck.errors import TargetError
from nncheck.observe.source import place_at, shown
from nncheck.target.loading import Target
from nncheck.target.names import FLAGS, NAMES
from nncheck.target.reading import Reading
from nncheck.verdict import Place


@dataclass
class Search:
    """A file and its parts: values, the names they were found under, notes for people, and what could not be used and why."""

    module: ModuleType
    reading: Reading
    target: Target
    parts: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unusable: dict[str, list[str]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return shown(str(self.reading.path))

    def bind(self, part: str, name: str, value: Any) -> None:
        self.parts[part], self.names[part] = value, name

    def place(self, name: str) -> Place:
        return place_at(name, str(self.reading.path), self.reading.bound.get(name.partition(".")[0]))


def several(part: str, found: Mapping[str, Any], search: Search) -> TargetError:
    """More than one thing could be a part: the error that lists them."""
    kinds = [f"{n} ({v.__name__ if inspect.isclass(v) else type(v).__name__})" for n, v in found.items()]
    first = next(iter(found))
    return TargetError(
        f"{search.file} could mean {len(found)} things by {part}: {', '.join(kinds)}",
        places=tuple(search.place(name) for name in found),
        help=f"choose with `{FLAGS[part]} {first}`, or call the right one `{NAMES[part][0]}`",
    )
