"""How a measurement is told what a script does, and what it may know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nncheck.capture.finding import held_by
from nncheck.capture.frameworks.library import Watched
from nncheck.verdict import Place


@dataclass(kw_only=True)
class Course:
    """The parts of a script that goes on, and how far it has come. Counted from its first optimizer step, which is number 1.

    model: what the first optimizer trains. loader: what gave the first batch, or None. roots: modules that the script called itself
    before its first step. training: whether the last call of a model had gradients. steps, backwards: so far. epochs: how often
    `loader` was begun, the one under way at the first step included. cut: loaders whose epoch was ended early, by id. made: the
    user's lines that made optimizers, loaders and schedules before that step, by id. early: schedules that were stepped before it,
    and where. not_its_own: names of modules that were there before the script. watcher: who tells the witnesses; it can end the
    copy, or go on with one of them alone. library: what runs the loop, if the script does not.
    held: ids of the parameters of `optimizer`, if it is followed by itself beside others, and elsewhere those of the others;
    first: whether the first step is its own.
    """

    model: nn.Module
    optimizer: Any
    loader: Any
    schedulers: list[Any]
    roots: list[nn.Module]
    training: bool = True
    steps: int = 0
    backwards: int = 0
    epochs: int = 1
    cut: set[int] = field(default_factory=set)
    made: dict[int, Place] = field(default_factory=dict)
    early: list[tuple[Any, Place]] = field(default_factory=list)
    not_its_own: frozenset[str] = frozenset()
    watcher: Any = None
    library: Watched | None = None
    held: frozenset[int] | None = None
    first: bool = True
    elsewhere: frozenset[int] = frozenset()

    def its(self, optimizer: Any) -> bool:
        """Whether an optimizer is the one of this course, was made for its parameters, or takes the place of the first."""
        if self.held is None:
            return True
        ids = held_by(optimizer)
        return bool(self.held & ids) or (self.first and not self.elsewhere & ids)

    @property
    def validating(self) -> bool:
        """Whether a library validates now."""
        return self.library is not None and self.library.validating()


class Witness:
    """One measurement: told of events as they happen, on the script's side, it keeps what it needs and no tensor's memory.

    Every method but `evidence` may be left out.
    """

    def __init__(self, course: Course) -> None:
        self.course = course

    def begin(self) -> None:
        """The script is about to take its first step; patches of one's own are put in here (the process is a copy)."""

    def loader_begun(self, loader: Any) -> None:
        """Somebody iterates over a DataLoader."""

    def batch(self, loader: Any, batch: Any) -> None:
        """A loader gives a batch."""

    def loader_over(self, loader: Any) -> None:
        """A loader has come to its end, or has been ended early (`course.cut`)."""

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """The script calls a module itself; `course.training` says whether gradients are on."""

    def returned(self, module: nn.Module, output: Any) -> None:
        """That call has returned `output`."""

    def backward(self, loss: Tensor) -> None:
        """`backward` is about to be called on a loss."""

    def step(self, optimizer: Any) -> None:
        """An optimizer is about to step."""

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""

    def evidence(self) -> Any:
        """What was seen: a frozen dataclass of plain values and places, which can be pickled."""
        raise NotImplementedError  # the one method that each has to bring; all others may be left out
