"""What a library at work tells of the training it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Iterations(Protocol):
    """A loop that can be begun again."""

    @property
    def where(self) -> str:
        """What it is and where it stands, for people."""

    def begin(self) -> Iterator[None]:
        """The loop from its beginning; each `next` runs one iteration, on the batch that the script is handed."""

    def reset(self) -> None:
        """Everything the loop counts as it was when the script stopped."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library's loop, and the parts of the set-up that its trainer holds.

    name: of the library. batches: what the first batch may have been, the likeliest first. state: what a step may change besides
    model and optimizer. train_loader: None: the one that gave the first batch. epochs: None if the run is counted otherwise.
    intervals: how often each schedule is stepped, by its id; one that is in none of the two is not there. folders: of this run.
    """

    name: str
    loop: Iterations
    batches: list[Any]
    state: list[Any]
    train_loader: Iterable[Any] | None
    val_loader: Iterable[Any] | None
    epochs: int | None
    intervals: Mapping[int, str]
    folders: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A library's training that goes on in a copy of the process.

    loader: what it trains on. micro: how many of its batches make a step. validating: whether it validates now.
    metrics: what it has logged last, by name. scored: `MetricsSeen` of a function of the user's that it hands all predictions, or
    None. held: the objects of the user's whose methods it calls.
    """

    loader: Any
    micro: int
    validating: Callable[[], bool]
    metrics: Callable[[], Mapping[str, Any]]
    scored: Callable[[], Any]
    held: Sequence[Any]


class Kept:
    """The attributes of objects as they are now, shallowly: counters, and what hangs on them."""

    def __init__(self, held: Iterable[Any]) -> None:
        self._held = [(vars(value), dict(vars(value))) for value in held]

    def put_back(self) -> None:
        """Every attribute as it was."""
        for attributes, saved in self._held:
            attributes.clear()
            attributes.update(saved)
