"""Where a network begins to look ahead: the first call whose result at earlier positions changes with later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.doors import Change, woken_passage
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.source import layer_place, located
from nncheck.observe.watch import Call
from nncheck.verdict import Place

# Results kept for comparison take at most this much memory; beyond it the place is not told.
KEPT_BYTES = 512 << 20


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The first call that looks ahead. state: it was a recurrent layer that was given an initial state made from the whole."""

    function: str
    place: Place
    state: bool


def beyond(before: Tensor, after: Tensor, scale: Tensor | float) -> Tensor:
    """How far values moved, element by element, relative to `scale`; values equal on both sides, infinite ones too, did not."""
    gap = (after.double() - before.double()).abs()
    gap = torch.where(before == after, torch.zeros_like(gap), gap)
    return torch.nan_to_num(gap, nan=0.0, posinf=float("inf")) / scale


def first_ahead(
    sandbox: Sandbox, batch: Any, change: Change, *, length: int, position: int, tolerance: float
) -> Ahead | None:
    """Compare two passes call by call, one with the argument changed from `position` on."""
    kept: list[tuple[str, Tensor]] = []
    room = KEPT_BYTES

    def keep(call: Call) -> None:
        nonlocal room
        if isinstance(call.result, (Tensor, tuple)):
            for tensor in _timed(call.result, length):
                room -= tensor.numel() * tensor.element_size()
                if room > 0:
                    kept.append((call.name, tensor.detach().clone()))

    found: Ahead | None = None
    number = 0

    def compare(call: Call) -> None:
        nonlocal found, number
        if found is not None or not isinstance(call.result, (Tensor, tuple)):
            return
        for tensor in _timed(call.result, length):
            if number >= len(kept):
                return
            name, before = kept[number]
            number += 1
            if name != call.name or before.shape != tensor.shape:
                number = len(kept)  # another way through the model: what follows cannot be compared
                return
            if _earlier(before, tensor.detach(), length, position) > tolerance:
                found = Ahead(function=call.name, place=_place(sandbox, call), state=_given_state(call))
                return

    for given, handler in ((None, keep), (change, compare)):
        woken_passage(sandbox, batch, change=given, calls=(handler,))
    return found


def _timed(result: Any, length: int) -> Sequence[Tensor]:
    """The tensors in a result that have a time axis."""
    tensors = [result] if isinstance(result, Tensor) else [t for t in result if isinstance(t, Tensor)]
    return [t for t in tensors if t.is_floating_point() and length in t.shape[:5] and t.numel() > length]


def _earlier(before: Tensor, after: Tensor, length: int, position: int) -> float:
    """The largest change at positions before `position` along every axis of that length. Scores of queries against keys
    have two such axes: what is earlier along both must not move."""
    scale = before[before.isfinite()].abs().max() if bool(before.isfinite().any()) else before.new_ones(())
    for axis, size in enumerate(before.shape):
        if size == length:
            before, after = before.narrow(axis, 0, position), after.narrow(axis, 0, position)
    if not before.numel():
        return 0.0
    return float(beyond(before, after, scale.double().clamp_min(1e-30)).max())


def _place(sandbox: Sandbox, call: Call) -> Place:
    built_in = call.module is not None and type(call.module).__module__.startswith("torch.nn")
    own = layer_place(sandbox.model, call.layer) if built_in and call.layer else call.place()
    return located(own, sandbox.setup.origins.get("model"))


def _given_state(call: Call) -> bool:
    """Whether a recurrent layer was given an initial state that is not zero."""
    if call.name not in ("lstm", "gru", "rnn_tanh", "rnn_relu") or len(call.args) < 2:
        return False
    state = call.args[1]
    states = [state] if isinstance(state, Tensor) else list(state) if isinstance(state, (tuple, list)) else []
    return any(isinstance(t, Tensor) and bool((t != 0).any()) for t in states)
