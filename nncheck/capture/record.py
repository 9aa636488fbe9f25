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


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The beginning of an iteration: where the script asked for a batch or called its model.

    random: the generators as they were then: when each loader had given its batch, by the loader's id; at the call under `CALL`.
    taken: what the models and losses were given from a call on.
    """

    stack: tuple[Stood, ...]
    random: dict[int, RandomState] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)


@dataclass
class Record:
    """Events in the order in which they came. What belongs to one iteration is begun anew with each batch.

    roots: modules that the script called itself; tensors: theirs, as they were before the first call; modes: as they were trained.
    given: the batch that each loader gave in this iteration, in order, by the loader's id; loaders: those loaders.
    asked: where the first of them was asked; called: where the model was called first since the last backward pass.
    losses: what backward was called on since, each with `version()` then; backward: where it was called last.
    micro: iterations that called backward.
    optimizer: the first to step, at `step`. made: the user's line that made an optimizer, loader or schedule.
    written: files that were opened for writing. processes: places where child processes were started.
    """

    roots: list[nn.Module] = field(default_factory=list)
    tensors: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    modes: dict[nn.Module, bool] = field(default_factory=dict)
    given: dict[int, Any] = field(default_factory=dict)
    loaders: dict[int, Any] = field(default_factory=dict)
    asked: Begun | None = None
    called: Begun | None = None
    losses: list[tuple[float, int]] = field(default_factory=list)
    backward: tuple[Stood, ...] = ()
    micro: int = 0
    optimizer: Optimizer | None = None
    closure: bool = False
    step: tuple[Stood, ...] = ()
    made: dict[int, Place] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    processes: list[Place] = field(default_factory=list)

    def own_losses(self) -> int:
        """How many losses the first step goes back from: a sharpness-aware one has moved the weights before the others."""
        return max(1, sum(version == self.losses[0][1] for _, version in self.losses))

    def version(self) -> int:
        """A number that grows with every change of a weight in place."""
        return sum(tensor._version for tensor, _ in self.tensors if tensor.requires_grad)

    def put_back(self) -> None:
        """The models as they were before the script first called them: a step in several parts may have moved them since."""
        for tensor, value in self.tensors:
            tensor.data.copy_(value)
        for module, training in self.modes.items():
            module.training = training
