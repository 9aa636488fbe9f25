"""What a loss of yes and no makes of the targets themselves, and of three times these: the range it is made for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.verdict import Place

# Beyond the range of probabilities for certain, and by no more than a few times.
BEYOND = 3.0


@dataclass(frozen=True, kw_only=True)
class LossAtTruth:
    """The first batch. asked: whether targets are all 0 or 1 and the loss can be called on them as predictions.

    loss: of the model's output. at_truth, beyond: of the targets, and of three times the targets. low, high: the output's
    extremes; outside: the share of it that lies outside of [0, 1].
    """

    asked: bool
    place: Place | None = None
    loss: float = math.nan
    at_truth: float = math.nan
    beyond: float = math.nan
    low: float = math.nan
    high: float = math.nan
    outside: float = math.nan


@probe
def loss_at_truth(sandbox: Sandbox) -> LossAtTruth:
    """One forward pass; then only the loss is asked again."""
    loss_fn, target = sandbox.setup.loss_fn, batches.split(sandbox.feed.first)[1]
    if sandbox.objective.form != "loss_fn" or loss_fn is None or not isinstance(target, Tensor) or not target.numel():
        return LossAtTruth(asked=False)
    if not bool(((target == 0) | (target == 1)).all()) or not bool((target != target.flatten()[0]).any()):
        return LossAtTruth(asked=False)
    with sandbox.trial():
        outcome = sandbox.forward(sandbox.feed.first)
        output = outcome.output
        # A loss of torch's says by its name what it is given.
        if outcome.calls or not isinstance(output, Tensor) or output.shape != target.shape:
            return LossAtTruth(asked=False)
        output, value = output.detach(), float(outcome.loss.detach())
        del outcome
        truth = target.to(output.dtype)
        with torch.no_grad():
            try:
                at_truth, beyond = (float(loss_fn(truth * times, target)) for times in (1.0, BEYOND))
            except (RuntimeError, TypeError, ValueError):  # made for this very output, or not one number
                return LossAtTruth(asked=False)
    return LossAtTruth(
        asked=True,
        place=sandbox.setup.origins.get("loss_fn"),
        loss=value,
        at_truth=at_truth,
        beyond=beyond,
        low=float(output.min()),
        high=float(output.max()),
        outside=float(((output < 0) | (output > 1)).float().mean()),
    )
