"""Weights that a script changes by hand, with no torch optimizer: noticed when a second iteration begins with other weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nncheck.capture.record import Record


class ByHand(Optimizer):
    """Stands for the script's own lines, which only they can run: it holds the weights that they change."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__(weights, {})

    def step(self, closure: Any = None) -> Any:
        """Nothing: nobody but the script knows how."""


def updated_by_hand(record: Record) -> bool:
    """Whether weights have changed since the last iteration though no optimizer stepped; called when `backward` is.

    The record then begins with the present iteration, and from the weights as they are now.
    """
    if len(record.losses) < 2:
        return False
    before = record.losses[-2].order
    begun = [request.order for request in record.requests.values()]
    if not begun and record.called is not None:
        begun = [record.called.order]
    if not begun or min(begun) < before:  # the same iteration: a sharpness-aware step moves its weights in between
        return False
    moved = [t for t, value, _ in record.tensors if t.requires_grad and not torch.equal(t.detach(), value)]
    if not moved:
        return False
    record.first = record.tensors
    record.tensors = [(t, t.detach().clone(), t._version) for t, _, _ in record.tensors]
    del record.losses[:-1]
    record.asked = {id(r.loader): [r.order] for r in record.requests.values()}
    record.calls = [order for order in record.calls if order > before]
    record.optimizer, record.step = ByHand(moved), record.backward
    return True
