"""Training set-ups as people write them, each with one planted fault and a twin without it, and sound ones.

`@twin("label-range", "loss-at-init", row="D09")` marks `def name(fault: bool) -> Recipe`: one function, one `if fault`. The ids are
the checks that name this fault rightly, the most fitting one first; `row` is the class of fault it stands for.
`@sound()` marks `def name() -> Recipe`: nothing is wrong, however it looks.

`scripts/score.py` asks every check about all of them. The hash of its name puts a set-up into one of two halves: thresholds and
rules may be worked on with one half only, and both are reported.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from nncheck import Recipe


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A set-up with and without one fault. `unseen`: why no honest measurement can tell it from a healthy one, if so."""

    name: str
    domain: str
    expected: tuple[str, ...]
    row: str
    make: Callable[[bool], Recipe]
    unseen: str


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A set-up without a fault. `look_alike`: the fault it looks like."""

    name: str
    domain: str
    make: Callable[[], Recipe]
    look_alike: str


_TWINS: dict[str, Twin] = {}
_SOUND: dict[str, Sound] = {}


def twin(*expected: str, row: str, unseen: str = "") -> Callable[[Callable[[bool], Recipe]], Callable[[bool], Recipe]]:
    """Mark a function of one flag: the set-up with the fault, or without it."""

    def mark(make: Callable[[bool], Recipe]) -> Callable[[bool], Recipe]:
        name = make.__name__
        if name in _TWINS and _TWINS[name].make.__module__ != make.__module__:
            raise ValueError(f"two twins are called {name}")
        domain = make.__module__.rpartition(".")[2]
        _TWINS[name] = Twin(name=name, domain=domain, expected=expected, row=row, make=make, unseen=unseen)
        return make

    return mark


def sound(look_alike: str = "") -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    """Mark a function that makes a set-up without a fault."""

    def mark(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
        name = make.__name__
        if name in _SOUND and _SOUND[name].make.__module__ != make.__module__:
            raise ValueError(f"two sound set-ups are called {name}")
        domain = make.__module__.rpartition(".")[2]
        _SOUND[name] = Sound(name=name, domain=domain, make=make, look_alike=look_alike)
        return make

    return mark


def corpus() -> tuple[tuple[Twin, ...], tuple[Sound, ...]]:
    """Every twin and every sound set-up, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_TWINS[n] for n in sorted(_TWINS)), tuple(_SOUND[n] for n in sorted(_SOUND))


def tuned(name: str) -> bool:
    """Whether a set-up is in the half that rules and thresholds may be worked on with; the other half is held out."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0
