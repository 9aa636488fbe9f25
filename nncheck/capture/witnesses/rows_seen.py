"""Which rows of its data a script without a loader trains on, and which it only looks at."""

from __future__ import annotations

from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncheck.capture.witnesses.validation_course import is_asked
from nncheck.capture.witnesses.variables import users_frames
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.batch import named_tensors
from nncheck.observe.source import calling_place, place_at
from nncheck.verdict import Place

# Larger ones are not read row by row, nor more rows than so many in all.
NUMBERS, ROWS = 1_000_000, 200_000


@dataclass(frozen=True, kw_only=True)
class RowsSeen:
    """Rows of real numbers that a model was given: different ones by their content.

    trained: of calls that a step of the optimizer followed. looked: of calls without gradients; shared: of these, how many are
    among the former. variables: the names under which what was looked at is held. unused: names of tensors which no line of the
    script asks for anything, each with the line at which it stood. place: where the model was last called without gradients.
    """

    trained: int
    looked: int
    shared: int
    variables: tuple[str, ...]
    unused: tuple[Place, ...]
    place: Place | None


class Rows(Witness):
    """Tells rows from one another by their bytes. A row of one number, or of whole numbers, may be the same by chance."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._held = {id(p) for group in course.optimizer.param_groups for p in group["params"]}
        self._pending: set[int] = set()
        self._trained: set[int] = set()
        self._looked: set[int] = set()
        self._variables: set[str] = set()
        self._unused: dict[str, Place] = {}
        self._place: Place | None = None
        self._read = course.loader is None

    def begin(self) -> None:
        if not self._read:
            return
        for frame in users_frames():
            for name, _ in _tensors_of(frame):
                if not is_asked(frame.f_code.co_filename, name):
                    self._unused[name] = place_at(name, frame.f_code.co_filename, frame.f_lineno)

    def loader_begun(self, loader: Any) -> None:
        self._read = False  # then its loaders tell

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._read or not any(id(p) in self._held for p in module.parameters()):
            return
        given = next((t for _, t in named_tensors((args, kwargs)) if t.dim() > 1), None)
        rows = None if given is None else _rows(given)
        if given is None or rows is None or len(self._trained) + len(self._looked) > ROWS:
            self._read = False  # what is not read cannot be compared
        elif torch.is_grad_enabled():
            self._pending |= rows
        else:
            self._looked |= rows
            self._place = calling_place(type(module).__name__)
            for frame in users_frames():
                self._variables |= {name for name, value in _tensors_of(frame) if value is given}

    def stepped(self, optimizer: Any) -> None:
        self._trained |= self._pending
        self._pending = set()

    def evidence(self) -> RowsSeen:
        if not self._read:
            raise LookupError("the data were not followed row by row")
        return RowsSeen(
            trained=len(self._trained),
            looked=len(self._looked),
            shared=len(self._looked & self._trained),
            variables=tuple(sorted(self._variables)),
            unused=tuple(self._unused.values()),
            place=self._place,
        )


def _tensors_of(frame: FrameType) -> list[tuple[str, Any]]:
    """The tensors and arrays that a frame's own names hold."""
    scopes = (frame.f_locals, frame.f_globals)
    return [
        (n, v) for scope in scopes for n, v in list(scope.items()) if isinstance(v, (Tensor, np.ndarray)) and v.ndim
    ]


def _rows(given: Tensor) -> set[int] | None:
    """The rows of a tensor, told apart by their content; None if they are too many, or may be equal by chance."""
    if not given.is_floating_point() or given.numel() > NUMBERS or given[0].numel() < 2:
        return None
    table = given.detach().reshape(len(given), -1)
    if bool((table == table.round()).all()):
        return None
    return {hash(row.tobytes()) for row in table.double().numpy()}
