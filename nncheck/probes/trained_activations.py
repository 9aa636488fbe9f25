"""The network's insides once more, after the short run: what a few updates mend, and what they break."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.errors import CannotMeasure, TargetError
from nncheck.probes.activations import Activations
from nncheck.probes.short_run import ShortRun
from nncheck.registry import probe

# The loss at the end is the median of so many last updates: single small batches are noisy.
LAST = 8


@dataclass(frozen=True, kw_only=True)
class TrainedActivations:
    """After `updates` updates by `optimizer`, the loss having gone from `first_loss` to `last_loss`.

    after: the same measurement as at the start; None if the run diverged, or if the network keeps a state from its small batches
    and takes no whole one after them.
    """

    optimizer: str
    updates: int
    first_loss: float
    last_loss: float
    after: Activations | None


@probe
def trained_activations(run: ShortRun) -> TrainedActivations:
    """What the short run measured at its end."""
    if isinstance(run.activations, CannotMeasure):
        raise run.activations
    last = sorted(run.losses[-LAST:])
    return TrainedActivations(
        optimizer=run.optimizer,
        updates=run.updates,
        first_loss=run.losses[0],
        last_loss=last[len(last) // 2],
        after=None if isinstance(run.activations, TargetError) else run.activations,
    )
