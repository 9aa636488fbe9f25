"""Which of the user's lines ask for a value of the step's tensors, and how often: each makes the host wait for the device."""

from __future__ import annotations

import sys
import weakref
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.batch import named_tensors
from nncheck.observe.source import is_ours, is_users, place_at
from nncheck.verdict import Place

# Calls of a model that are followed, with gradients and without: what a loop does with its outputs, it does every time.
FOLLOWED = 12

_ASKING = {
    getattr(Tensor, name): name.strip("_")
    for name in (
        "item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__complex__", "__repr__",
        "__format__", "__array__",
    )
}  # fmt: skip
# A position may lie on the host while what it picks from lies on the device.
_PICKING = {Tensor.__getitem__, Tensor.__setitem__}
_MOVING = {Tensor.cpu, Tensor.to}


@dataclass(frozen=True, kw_only=True)
class AskingLine:
    """A line that asks for values. counts, rows: for each call of a model after which it did, how often, and how many samples the
    model was given. calls: how many calls of the same kind, with or without gradients, were followed."""

    place: Place
    counts: tuple[int, ...]
    rows: tuple[int, ...]
    calls: int
    training: bool


@dataclass(frozen=True, kw_only=True)
class DeviceWaits:
    """lines: the user's lines that ask for values of the step's tensors. calls: how many calls of models were followed."""

    lines: tuple[AskingLine, ...]
    calls: int


class WaitWitness(Witness):
    """Follows what is computed from a model's inputs and outputs: on a GPU all of it would lie there.

    What a data set or a collate function asks of its own tensors costs nothing, and is not counted.
    """

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._on_device: dict[int, weakref.ref[Tensor]] = {}
        self._now: Counter[tuple[str, int, str]] = Counter()
        self._rows = 0
        self._training: bool | None = None
        self._calls: Counter[bool] = Counter()
        self._seen: dict[tuple[str, int, str, bool], list[tuple[int, int]]] = defaultdict(list)

    def begin(self) -> None:
        mode: Any = _Following(self)
        mode.__enter__()  # for as long as the copy lives

    @property
    def following(self) -> bool:
        """Whether a model was called and what becomes of its outputs is of interest."""
        return self._training is not None

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if next(module.parameters(), None) is None:
            return
        self._close()
        training = self.course.training
        if self._calls[training] >= FOLLOWED:
            return
        self._calls[training] += 1
        self._training = training
        given = [tensor for _, tensor in named_tensors((args, kwargs))]
        self._rows = next((t.shape[0] for t in given if t.dim()), 1)
        for tensor in given:
            self.mark(tensor)

    def returned(self, module: nn.Module, output: Any) -> None:
        if self.following:
            for _, tensor in named_tensors(output):
                self.mark(tensor)

    def loader_over(self, loader: Any) -> None:
        self._close()  # what is done once an epoch is not the step's

    def evidence(self) -> DeviceWaits:
        self._close()
        lines = []
        for (file, line, what, training), seen in self._seen.items():
            counts, rows = tuple(count for count, _ in seen), tuple(rows for _, rows in seen)
            lines.append(
                AskingLine(
                    place=place_at(what, file, line),
                    counts=counts,
                    rows=rows,
                    calls=self._calls[training],
                    training=training,
                )
            )
        return DeviceWaits(lines=tuple(lines), calls=sum(self._calls.values()))

    def mark(self, tensor: Tensor) -> None:
        """It would lie on the device."""
        if not (tensor.is_leaf and tensor.requires_grad):
            key = id(tensor)
            self._on_device[key] = weakref.ref(tensor, lambda _: self._on_device.pop(key, None))

    def marked(self, tensor: Any) -> bool:
        """Whether it would lie on the device."""
        found = self._on_device.get(id(tensor))
        return found is not None and found() is tensor

    def asked(self, what: str) -> None:
        """A value is asked for."""
        frame: Any = sys._getframe(1)
        while frame is not None and (is_ours(frame.f_code.co_filename) or frame.f_code.co_filename.startswith(_TORCH)):
            frame = frame.f_back
        # A library's own line is not the user's to change.
        if frame is not None and is_users(frame.f_code.co_filename):
            self._now[frame.f_code.co_filename, frame.f_lineno, what] += 1

    def _close(self) -> None:
        if self._training is not None:
            for key, count in self._now.items():
                self._seen[(*key, self._training)].append((count, self._rows))
        self._now.clear()
        self._training = None


_TORCH = str(torch.__path__[0])


class _Following(TorchFunctionMode):
    def __init__(self, witness: WaitWitness) -> None:
        super().__init__()
        self._witness = witness

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        witness = self._witness
        if not witness.following:
            return function(*args, **kwargs)
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        for several in (a for a in args if isinstance(a, (list, tuple))):
            given.extend(a for a in several if isinstance(a, Tensor))
        if not any(map(witness.marked, given)):
            return function(*args, **kwargs)
        if function in _ASKING:
            witness.asked(_ASKING[function])
        result = function(*args, **kwargs)
        if function in _MOVING:
            # On a CPU it is the same tensor; on a GPU what follows would be the copy's affair.
            return result if result is not args[0] else torch.ops.aten.alias(result)
        if function not in _PICKING:
            for tensor in given:
                if tensor.dim():
                    witness.mark(tensor)
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, Tensor):
                witness.mark(tensor)
        return result
