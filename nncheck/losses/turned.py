"""Losses written by hand whose sign is turned: they fall as the predictions get worse. Asked of their own derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.observe.lineage import Derived
from nncheck.observe.watch import Call

# Differences are taken of predictions and targets only; fewer of them may all lie on one side by chance.
FEWEST = 8
# A mean gives every sample the same weight, up to float32's rounding; rewards that turn a sign on purpose differ.
SAME = 1e-3
_DIFFERENCES = ("sub", "subtract", "rsub", "__rsub__", "__sub__")


@dataclass
class HandMade:
    """What a hand-written loss makes of predictions and targets. Give `see` to a watch; drop it soon, it keeps the graph."""

    batch: Any
    differences: list[Tensor] = field(default_factory=list)
    log_probabilities: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        target = batches.split(self.batch)[1]
        self._targets = [t for _, t in batches.named_tensors(self.batch if target is None else target)]
        self._derived = Derived(self._targets)

    def see(self, call: Call) -> None:
        """Keep differences of a prediction and a target, and log-probabilities."""
        self._derived.see(call)
        result = call.result
        if not isinstance(result, Tensor) or not result.requires_grad:
            return
        if call.name == "log_softmax" and result.ndim > 1:
            self.log_probabilities.append(result)
        elif call.name in _DIFFERENCES and len(call.args) > 1:
            output, target = sorted(call.args[:2], key=lambda value: value in self._derived)
            if not isinstance(output, Tensor) or target not in self._derived or output.shape != target.shape:
                return
            if output.requires_grad and result.shape == output.shape:
                self.differences.append(result)

    def turned(self, loss: Tensor) -> bool:
        """Whether the loss falls as every prediction leaves its target, and as every label's log-probability falls."""
        found = []
        for result in self.differences:
            slope = _slope(loss, result)
            if slope is None:
                continue
            # Whichever way round the difference was taken, its own value points away from zero.
            outward = slope * result.detach()
            known = outward[outward != 0]
            if known.numel():
                found.append(known.numel() >= max(FEWEST, outward.numel() / 2) and bool((known < 0).all()))
        for result in self.log_probabilities:
            slope = _slope(loss, result)
            if slope is not None and bool((slope != 0).any()):
                found.append(self._against_labels(slope))
        return bool(found) and all(found)

    def _against_labels(self, slope: Tensor) -> bool:
        """One log-probability in each row, that of the batch's own label, all with the same positive weight."""
        rows = slope.movedim(1, -1).flatten(0, -2)
        one = (rows != 0).sum(1) == 1
        weights = rows[one].sum(1)
        if not bool(one.all()) or len(rows) < FEWEST or float(weights.min()) <= 0:
            return False
        if float(weights.max()) > (1 + SAME) * float(weights.min()):
            return False
        labels = rows.ne(0).float().argmax(1)
        return any(
            not t.is_floating_point() and t.numel() == len(labels) and torch.equal(t.flatten().long(), labels)
            for t in self._targets
        )


def _slope(loss: Tensor, result: Tensor) -> Tensor | None:
    (slope,) = torch.autograd.grad(loss, [result], retain_graph=True, allow_unused=True)
    return slope
