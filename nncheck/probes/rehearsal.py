"""The user's own recipe for a minute: whole batches, dropout and decay on, the user's optimizer at its real rates.

One run serves every question about learning: whether the loss falls, how large the updates are, what the predictions do, and
what was learned for samples that were not trained on. For a run that forgives (small batches, no dropout) see `short_run`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.held import Level as Level, eval_mode, fall, level_if_possible, validation_batches
from nncheck.lab.looks import Look as Look, Looker, Wanted as Wanted
from nncheck.lab.moves import Descent, Mover, Moves as Moves
from nncheck.lab.noise_scale import GradientNoise, gradient_noise
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot
from nncheck.lab.training import named_optimizer, train, trainable, users_optimizer, wants_closure
from nncheck.probes.short_run import DIVERGED, KEPT_NUMBERS
from nncheck.registry import probe

# Whole batches: 60 updates are 60 training steps. What is measured beside them costs about 20 more.
UPDATES = 60
# The predictions are looked at here (after so many updates), evenly in the second half so that looks can be compared.
LOOKS = (0, 2, 5, 10, 20, 30, 40, 50, 60)
# Updates whose fall of the loss is compared with the gradient's word. The first knows no momentum yet.
DESCENTS = (0, 1, 10, 30, 50)
# The size of updates 2 to 20 is taken: the first of Adam says only its rate. After a warm-up: the 19 after it.
COUNTED = range(1, 20)
# Batches in each of the sets whose loss is taken before and after. Four quarters of each of two batches give the noise scale.
HELD = 2
# Fresh samples are kept back only where at least so many batches are left to train on.
TRAINED = 6
# A loss that stayed above this many times its start for so long comes back no more.
GONE, GONE_UPDATES = 10.0, 8


@dataclass(frozen=True, kw_only=True)
class Levels:
    """One fixed set of samples before the run and after it, with the modules in the user's train mode and in eval mode.

    None where the model gives no loss in that mode. Before and after are the same samples under the same random numbers.
    """

    samples: int
    before: Level | None
    after: Level | None
    eval_before: Level | None
    eval_after: Level | None

    @property
    def fall(self) -> tuple[float, float]:
        """(mean fall of the loss in train mode, its t over the samples in pairs); (NaN, 0) where it cannot be told."""
        return fall(self.before, self.after) if self.before and self.after else (math.nan, 0.0)

    @property
    def eval_fall(self) -> tuple[float, float]:
        """The same in eval mode."""
        return fall(self.eval_before, self.eval_after) if self.eval_before and self.eval_after else (math.nan, 0.0)


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What `len(losses)` updates of the user's recipe did.

    distinct: different batches trained on; begun again after them.
    size: samples in a batch. losses: before each update, as the user's code gives them. gradients: the norm of the gradient then.
    seen: samples trained on. fresh: samples of the training loader never trained on (None if it is short). validation: None
    without a validation loader, or where it fails (`no_validation` then says why).
    looks, wanted: the answers to one fixed batch along the way (of `fresh`, else of `seen`), and what it asks for.
    diverged: the loss is not finite, or ended far above its start. whole: whether all `UPDATES` were made.
    noise: of the gradient at the end. checkpoint: the state at the end; None if the run diverged or the model is large.
    closure: the optimizer computes the loss itself, several times an update (LBFGS).
    """

    optimizer: str
    distinct: int
    size: int
    losses: tuple[float, ...]
    gradients: tuple[float, ...]
    moves: tuple[Moves, ...]
    descents: tuple[Descent, ...]
    seen: Levels
    fresh: Levels | None
    validation: Levels | None
    no_validation: str
    wanted: Wanted | None
    looks: tuple[Look, ...]
    diverged: bool
    noise: GradientNoise | None
    checkpoint: Snapshot | None
    closure: bool = False

    @property
    def whole(self) -> bool:
        return len(self.losses) == UPDATES and not self.diverged


@dataclass(frozen=True, kw_only=True)
class Course:
    """The batches of a run: `order` to train on, one an update, and the sets that are kept to compare on."""

    order: tuple[Any, ...]
    distinct: int
    seen: tuple[Any, ...]
    fresh: tuple[Any, ...]


def course(sandbox: Sandbox) -> Course:
    """The user's batches in the order of one seeded epoch, begun again when it is over."""
    taken = sandbox.feed.take(UPDATES + HELD)
    if len(taken) > 1 and 2 * batches.size(taken[-1]) < batches.size(taken[0]):
        taken = taken[:-1]  # the rest of an epoch, too few samples for BatchNorm or for a comparison
    fresh = taken[-HELD:] if len(taken) >= TRAINED + HELD else []
    trained = taken[: len(taken) - len(fresh)]
    order = tuple(trained[i % len(trained)] for i in range(UPDATES))
    return Course(order=order, distinct=min(len(trained), UPDATES), seen=tuple(trained[:HELD]), fresh=tuple(fresh))


@probe
def rehearsal(sandbox: Sandbox) -> Rehearsal:
    """Train as the user would, and look at it from all sides."""
    plan = course(sandbox)
    no_validation = ""
    try:
        held_back = validation_batches(sandbox, HELD)
    except CannotMeasure as reason:
        held_back, no_validation = [], str(reason)
    with sandbox.trial():
        optimizer, ramp = users_optimizer(sandbox)
        name = named_optimizer(optimizer)
        sets = (plan.seen, plan.fresh, tuple(held_back))
        before = [_levels(sandbox, given) for given in sets]
        looker, mover = Looker(sandbox, (plan.fresh or plan.seen)[0]), Mover(sandbox, optimizer)
        losses = _train(sandbox, plan, optimizer, ramp, looker, mover)
        after = [_levels(sandbox, given) for given in sets]
        levels = [_set(*both) for both in zip(sets, before, after, strict=True)]
        diverged = _diverged(losses, levels[0])
        noise = None
        if levels[0] is not None and not diverged:
            noise = _noise(sandbox, plan, optimizer)
        optimizer.zero_grad(set_to_none=True)
        small = sum(p.numel() for p in trainable(sandbox)) <= KEPT_NUMBERS
        return Rehearsal(
            optimizer=name,
            distinct=plan.distinct,
            size=batches.size(plan.order[0]),
            losses=tuple(losses),
            gradients=tuple(mover.gradient),
            moves=mover.moves(),
            descents=tuple(mover.descents),
            seen=levels[0] or Levels(samples=0, before=None, after=None, eval_before=None, eval_after=None),
            fresh=levels[1],
            validation=levels[2],
            no_validation=no_validation,
            wanted=looker.wanted,
            looks=tuple(looker.looks),
            diverged=diverged,
            noise=noise,
            checkpoint=sandbox.checkpoint() if small and not diverged else None,
            closure=wants_closure(optimizer),
        )


def _train(sandbox: Sandbox, plan: Course, optimizer: Any, ramp: int, looker: Looker, mover: Mover) -> list[float]:
    counted = range(COUNTED.start + ramp, COUNTED.stop + ramp)

    def ready(index: int) -> None:
        mover.before(index, weights=index in counted, slopes=index in DESCENTS, batch=plan.order[index])

    losses: list[float] = []
    looker.look(0)
    for update in train(sandbox, plan.order, optimizer, ramp=ramp, ready=ready):
        index = update.index
        losses.append(update.loss)
        if not math.isfinite(update.loss):
            break
        mover.after(index, update.loss, weights=index in counted, batch=plan.order[index])
        if index + 1 in LOOKS:
            looker.look(index + 1)
        last = losses[-GONE_UPDATES:]
        if index >= 2 * GONE_UPDATES and min(last) > losses[0] + (GONE - 1) * max(abs(losses[0]), 1e-3):
            break
    return losses


def _levels(sandbox: Sandbox, given: tuple[Any, ...]) -> tuple[Level | None, Level | None]:
    usual = level_if_possible(sandbox, given)
    with eval_mode(sandbox.model):
        return usual, level_if_possible(sandbox, given)


def _set(
    given: tuple[Any, ...], before: tuple[Level | None, Level | None], after: tuple[Level | None, Level | None]
) -> Levels | None:
    if not given:
        return None
    return Levels(
        samples=sum(batches.size(b) for b in given),
        before=before[0],
        after=after[0],
        eval_before=before[1],
        eval_after=after[1],
    )


def _diverged(losses: list[float], seen: Levels | None) -> bool:
    if not all(map(math.isfinite, losses)):
        return True
    if seen is None or seen.before is None or seen.after is None:
        return False
    was, now = seen.before.mean, seen.after.mean
    return not math.isfinite(now) or now > was + (DIVERGED - 1) * max(abs(was), 1e-3)


def _noise(sandbox: Sandbox, plan: Course, optimizer: Any) -> GradientNoise | None:
    tensors = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    try:
        return gradient_noise(sandbox, (*plan.fresh, *plan.seen), tensors)
    except (TargetError, CannotMeasure):
        return None  # a batch size is written into the model
