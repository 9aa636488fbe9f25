"""How far one small batch can be learned under the weight decay in use, where that decay could be in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from typing import Any

import torch

from nncheck.lab import batch as batches
from nncheck.lab.micro import data_loss, mean_loss
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import coupled_decay, named_optimizer, train, trainable, without_dropout
from nncheck.losses.goal import accuracy, variety
from nncheck.probes.overfit import CONTROL_RATES, CONTROL_UPDATES, OverfitBatch
from nncheck.probes.rehearsal import Rehearsal
from nncheck.registry import probe

# The decay of SGD and Adam is the penalty decay/2 * |w|^2. While it is below half of the loss at the start it cannot outweigh what
# the loss has to give (1e-4 on 10,000 default weights of a narrow layer: 0.02 of 2.3).
PENALTY = 0.5
# Decoupled decay (AdamW, Lion) holds each weight below 1/decay in equilibrium, whatever the rate: 0.1 leaves room for 10.
DECOUPLED = 1.0
# Without decay the batch is known by heart, or a control had less than this part of the way left when its updates ended.
NEARLY = 0.25


@dataclass(frozen=True, kw_only=True)
class DecayRun:
    """The batch of `overfit` learned once more under the user's decay, by an Adam whose rate learned it without.

    decay: the largest of the groups. penalty: decay/2 * |w|^2 over all weights at the start. coupled: added to the gradient (SGD,
    Adam), not to the weights (AdamW). optimizer: empty where no run was needed, or it would have cost too much: no losses then.
    share: what is left at the end of the way from the best constant to the floor; without: the same without decay. fit: the
    goal was reached.
    """

    decay: float
    penalty: float
    coupled: bool
    optimizer: str
    losses: tuple[float, ...]
    share: float
    without: float
    fit: bool

    @property
    def end(self) -> float:
        return median(self.losses[-10:]) if self.losses else math.nan


@probe
def decay_run(sandbox: Sandbox, run: Rehearsal, batch: OverfitBatch) -> DecayRun:
    """Run only where the decay is large and the batch can be learned without it."""
    penalty = sum(0.5 * moves.decay * moves.start**2 for moves in run.moves)
    decay = max((moves.decay for moves in run.moves), default=0.0)
    coupled = coupled_decay(sandbox.optimizer)
    heavy = penalty > PENALTY * abs(run.losses[0]) if coupled else decay >= DECOUPLED
    best = batch.best
    limit = CONTROL_UPDATES if best.fit else len(best.losses)
    dear = not sandbox.meter.affords(limit * batch.samples / max(1, sandbox.feed.batch_size))
    if dear or not (heavy and batch.goal.exact and (best.fit or (not best.users and best.share < NEARLY))):
        return DecayRun(
            decay=decay,
            penalty=penalty,
            coupled=coupled,
            optimizer="",
            losses=(),
            share=math.nan,
            without=best.share,
            fit=False,
        )
    goal, losses, fit = batch.goal, list[float](), False
    given = _same_batch(sandbox, batch)
    rate = next((r for r in CONTROL_RATES if best.optimizer == f"Adam(lr={r:g})"), CONTROL_RATES[0])
    with sandbox.trial(), without_dropout(sandbox.model) as handlers:
        optimizer = _decaying(sandbox, rate, coupled=coupled)
        for update in train(sandbox, repeat(given, limit), optimizer, frozen=True, calls=handlers):
            losses.append(mean_loss(update.outcome))
            if losses[-1] <= goal.value:
                right = accuracy(data_loss(update.outcome))
                fit = right is None or right >= goal.accuracy
                if fit:
                    break
        name = named_optimizer(optimizer)
    end = losses[-1] if fit else median(losses[-10:])
    return DecayRun(
        decay=decay,
        penalty=penalty,
        coupled=coupled,
        optimizer=name,
        losses=tuple(losses),
        share=goal.share(end) if math.isfinite(end) else math.inf,
        without=best.share,
        fit=fit,
    )


def _decaying(sandbox: Sandbox, rate: float, *, coupled: bool) -> torch.optim.Optimizer:
    """Adam with every tensor under its own group's decay."""
    decays: dict[int, float] = {}
    for group in sandbox.optimizer.param_groups:
        for p in group["params"]:
            decays[id(p)] = float(group.get("weight_decay") or 0.0)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable(sandbox) if decays.get(id(p), 0.0) == decay], "weight_decay": decay}
        for decay in sorted({0.0, *decays.values()})
    ]
    kind = torch.optim.Adam if coupled else torch.optim.AdamW
    return kind([group for group in groups if group["params"]], lr=rate)


def _same_batch(sandbox: Sandbox, batch: OverfitBatch) -> Any:
    """The samples that `overfit` learned."""
    first = sandbox.feed.first
    if batch.samples >= batches.size(first):
        return first
    indices = next(variety(first))
    return first if indices is None else batches.take(first, indices[: batch.samples])
