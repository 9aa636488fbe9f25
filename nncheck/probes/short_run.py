"""A short training run with the user's own optimizer on fresh samples: where the network stands after a few updates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.micro import micro_batches, micro_size, sample_losses
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot, seed_everything
from nncheck.lab.training import named_optimizer, train, trainable, users_optimizer, without_dropout
from nncheck.observe.watch import Handler
from nncheck.probes.activations import Activations, measure
from nncheck.registry import probe

# A micro-batch is a quarter of a batch: 32 updates cost 8 training steps. Enough for an Adam at 1e-3 to leave the initial
# state (update/weight ratio 2e-2 at step 1), and the first look of input-baseline.
UPDATES = 32
# A loss that ends at more than this many times its start, on the same samples, has diverged: what is measured there says nothing
# of the network. Four micro-batches, so that a rare class that one of them lacks does not decide.
DIVERGED = 2.0
LEVEL = 4
# A checkpoint of an Adam run takes five times the parameters' memory: a training step takes four and what its layers give. So it
# is kept only where it is small whatever the layers give: 10 MB; what else is asked of the trained network is asked at once.
KEPT_NUMBERS = 500_000


@dataclass(frozen=True, kw_only=True)
class ShortRun:
    """After `updates` updates by the user's optimizer (at the rate its warm-up leads to), dropout off.

    losses: before each update. samples: the loss of each sample before the update that used it. size: samples in an update.
    fresh: how many of the updates saw samples that no update had seen before; a small epoch is begun again.
    diverged: the loss is not finite or ended far above its start: do not judge the network at the checkpoint.
    activations: the network's insides at the end, or why they could not be measured. None if the run diverged.
    checkpoint: the state at the end; start from it with `sandbox.trial(start=...)`. None if the run diverged or the model is large.
    """

    optimizer: str
    updates: int
    size: int
    losses: tuple[float, ...]
    samples: tuple[tuple[float, ...], ...]
    fresh: int
    whole: bool
    diverged: bool
    activations: Activations | CannotMeasure | TargetError | None
    checkpoint: Snapshot | None


@probe
def short_run(sandbox: Sandbox) -> ShortRun:
    """Train for a few updates on micro-batches; on whole batches where the user's code cannot take a part of one."""
    if micro_size(sandbox) < sandbox.feed.batch_size:
        try:
            return _run(sandbox, whole=False)
        except TargetError:
            pass  # a batch size is written into the model, or a batch is one thing: whole batches then
    return _run(sandbox, whole=True)


def _run(sandbox: Sandbox, *, whole: bool) -> ShortRun:
    fresh = micro_batches(sandbox, UPDATES, whole=whole)
    order = [fresh[i % len(fresh)] for i in range(UPDATES)]
    with sandbox.trial():
        optimizer, ramp = users_optimizer(sandbox)
        name = named_optimizer(optimizer)
        losses: list[float] = []
        samples: list[tuple[float, ...]] = []
        with without_dropout(sandbox.model) as handlers:
            before = _level(sandbox, order, handlers)
            for update in train(sandbox, order, optimizer, ramp=ramp, calls=handlers):
                losses.append(update.loss)
                samples.append(sample_losses(update.outcome, batches.size(order[update.index])))
            after = _level(sandbox, order, handlers)
        diverged = not all(map(math.isfinite, (*losses, after))) or after > before + (DIVERGED - 1) * max(
            abs(before), 1e-3
        )
        optimizer.zero_grad(set_to_none=True)
        small = sum(p.numel() for p in trainable(sandbox)) <= KEPT_NUMBERS
        checkpoint = sandbox.checkpoint() if small and not diverged else None
        return ShortRun(
            optimizer=name,
            updates=len(losses),
            size=batches.size(order[0]),
            losses=tuple(losses),
            samples=tuple(samples),
            fresh=min(len(fresh), len(losses)),
            whole=whole,
            diverged=diverged,
            checkpoint=checkpoint,
            activations=None if diverged else _activations(sandbox),  # the last thing: it puts the user's state back
        )


def _activations(sandbox: Sandbox) -> Activations | CannotMeasure | TargetError:
    with sandbox.meter.charge("trained_activations"):
        try:
            return measure(sandbox)
        except (CannotMeasure, TargetError) as error:
            return error  # of the network's insides only: the losses of the run stand


def _level(sandbox: Sandbox, order: list[Any], handlers: tuple[Handler, ...]) -> float:
    """The mean loss on the first micro-batches as the network is now."""
    found = []
    for index, batch in enumerate(order[:LEVEL]):  # not under no_grad: a loss may hold a derivative of its own
        seed_everything(sandbox.seed + 1 + index)
        found.append(float(sandbox.forward(batch, calls=handlers).loss.detach()))
    return sum(found) / len(found)
