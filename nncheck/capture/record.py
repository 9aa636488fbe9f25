"""What a script did until its first optimizer step, and where it stood while it did."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nncheck.capture.calls import Taken
from nncheck.lab.snapshot import RandomState
from nncheck.observe.source import is_ours
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class Stood:
    """One frame of the script's stack at some moment: the line it was at, and its variables then."""

    frame: FrameType
    line: int
    names: dict[str, Any]


def standing(outermost: FrameType | None) -> tuple[Stood, ...]:
    """Where the script stands: its frames, the innermost first, up to the one that runs it."""
    return tuple(
        Stood(frame=frame, line=frame.f_lineno, names=dict(frame.f_locals)) for frame in frames_within(outermost)
    )


def frames_within(outermost: FrameType | None) -> Iterator[FrameType]:
    """The frames from the present one up to `outermost`, ours left out."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not outermost:
        if not is_ours(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


CALL = 0


@dataclass(kw_only=True)
class Begun:
    """Where an iteration may have begun: the script asked for a batch there, or called its model.

    order: its number among all events. random: the generators at the call, under `CALL`.
    taken: what the models and losses were given from a call on.
    """

    stack: tuple[Stood, ...]
    order: int
    random: dict[int, RandomState] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)


@dataclass(kw_only=True)
class Request(Begun):
    """A loader was asked for a batch; `after`: the generators when it had given it; `before`: the batch that it gave before."""

    loader: Any
    batch: Any = None
    before: Any = None
    after: RandomState | None = None


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What backward was called on; `version`: how often the weights had been changed by then."""

    value: float
    version: int
    order: int


@dataclass
class Record:
    """Events, numbered in the order in which they came.

    roots: modules that the script called itself; tensors: theirs, with value and version before the first call; attributes: what
    was hung on these tensors then; modes: as they were trained.
    requests: the last of each loader, in order, by the loader's id; asked: the numbers of all of them.
    called: where the model was called first since the last backward pass; calls: the numbers of all such calls.
    losses: what backward was called on; backward: where it was called last.
    optimizer: the first to step, at `step`. made: the user's line that made an optimizer, loader or schedule.
    written: files that were opened for writing. processes: places where child processes were started.
    at_backward: `requests` and `called` as they were when backward was called last.
    first: `tensors` as they were at first, if the script has changed its weights by hand since.
    stepless: the script is over, and `optimizer`, which it made, has never stepped: `step` is where it went back last.
    """

    roots: list[nn.Module] = field(default_factory=list)
    tensors: list[tuple[Tensor, Tensor, int]] = field(default_factory=list)
    attributes: list[tuple[Tensor, dict[str, Any]]] = field(default_factory=list)
    modes: dict[nn.Module, bool] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    asked: dict[int, list[int]] = field(default_factory=dict)
    called: Begun | None = None
    calls: list[int] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    backward: tuple[Stood, ...] = ()
    optimizer: Optimizer | None = None
    closure: bool = False
    step: tuple[Stood, ...] = ()
    made: dict[int, Place] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    processes: list[Place] = field(default_factory=list)
    at_backward: tuple[dict[int, Request], Begun | None] = field(default_factory=lambda: ({}, None))
    first: list[tuple[Tensor, Tensor, int]] | None = None
    stepless: bool = False

    order: int = 0

    def next(self) -> int:
        """The number of the next event."""
        self.order += 1
        return self.order

    def newest_losses(self) -> list[float]:
        """What was gone back from since the last batch was asked for, or the model called anew."""
        begun = max([request.order for request in self.requests.values()] or [self.called.order if self.called else 0])
        return [loss.value for loss in self.losses if loss.order > begun]

    def version(self) -> int:
        """A number that grows with every change of a weight in place."""
        return sum(tensor._version - noted for tensor, _, noted in self.tensors if tensor.requires_grad)

    def put_back(self) -> None:
        """The models as they were before the script first called them: a step in several parts may have moved them since."""
        for tensor, value, _ in self.tensors:
            tensor.data.copy_(value)
        for tensor, attributes in self.attributes:
            vars(tensor).clear()
            vars(tensor).update(attributes)
        for module, training in self.modes.items():
            module.training = training
