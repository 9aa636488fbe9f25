"""Logarithms of what a softmax gave, on their way to the loss, and what the loss is where the scores lie far apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nncheck.errors import TargetError
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.lineage import back_through_moves, node_name
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# exp(-104) is the smallest float32 above zero: a softmax of scores further apart has exact zeros.
GAP = 200.0
_PICKS = ("gather", "__getitem__", "take_along_dim", "index_select")
_LOSSES = ("nll_loss", "nll_loss_nd", "kl_div")


@dataclass(frozen=True, kw_only=True)
class LogOfSoftmax:
    """place: the logarithm of a softmax that the loss takes as log-probabilities, None if there is none. gap: how far the scores of
    a row lie apart at most. loss: of the first batch; stretched: the same where the scores lie `GAP` apart, NaN if not asked."""

    place: Place | None
    gap: float = math.nan
    loss: float = math.nan
    stretched: float = math.nan


@probe
def log_of_softmax(sandbox: Sandbox) -> LogOfSoftmax:
    """One forward pass, and a second one if there is such a logarithm."""
    made: list[tuple[Any, int, float]] = []
    logs: list[tuple[Tensor, Place, int, bool]] = []
    found: list[tuple[Place, int]] = []

    def see(call: Call) -> None:
        result = call.result
        if _is_softmax(call):
            made.append((result.grad_fn, len(made), _gap(call)))
        elif call.name == "log" and isinstance(result, Tensor) and result.requires_grad and call.args:
            nodes = list(back_through_moves(call.args[0].grad_fn, ("Gather",)))
            index = next((i for node, i, _ in made if node is nodes[-1]), None)
            if index is not None:
                picked = any(node_name(node).startswith("Gather") for node in nodes)
                logs.append((result, call.place(), index, picked))
                if picked:
                    found.append((logs[-1][1], index))
        elif logs and (call.name in _PICKS or call.name in _LOSSES) and call.args:
            found.extend((place, index) for log, place, index, _ in logs if call.args[0] is log)

    with sandbox.trial():
        loss = float(sandbox.forward(sandbox.feed.first, calls=(see,)).loss.detach())
    gaps = [gap for _, _, gap in made]
    made.clear()
    logs.clear()
    if not found or not math.isfinite(loss):
        return LogOfSoftmax(place=None)
    place, index = found[0]
    times = GAP / gaps[index] if gaps[index] > 0 else 1.0
    seen = 0

    def stretch(call: Call) -> Any:
        nonlocal seen
        if not _is_softmax(call):
            return None
        seen += 1
        if seen - 1 != index:
            return None
        return call.function(call.args[0] * times, *call.args[1:], **call.kwargs)

    try:
        with sandbox.trial():
            stretched = float(sandbox.forward(sandbox.feed.first, calls=(stretch,)).loss.detach())
    except TargetError:  # the user's own guard against zeros
        return LogOfSoftmax(place=None)
    return LogOfSoftmax(place=place, gap=gaps[index], loss=loss, stretched=stretched)


def _is_softmax(call: Call) -> bool:
    return (
        call.name == "softmax"
        and isinstance(call.result, Tensor)
        and bool(call.args)
        and isinstance(call.args[0], Tensor)
        and call.args[0].numel() > 0
    )


def _gap(call: Call) -> float:
    """How far the scores of a row lie apart at most."""
    scores: Tensor = call.args[0].detach()
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    dim = dim if isinstance(dim, int) else -1
    return float((scores.amax(dim) - scores.amin(dim)).max())
