"""One small batch, trained on until it is known by heart: by the user's optimizer first, then by a known-good one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.micro import data_loss, mean_loss
from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import (
    control_optimizer,
    named_optimizer,
    train,
    trainable,
    users_optimizer,
    without_dropout,
)
from nncheck.losses.call import LossCall
from nncheck.losses.goal import Goal, accuracy, goal_of, predictions, smallest, variety
from nncheck.losses.turned import HandMade
from nncheck.observe.preview import preview
from nncheck.registry import probe
from nncheck.verdict import Place, Samples

# Updates before the user's optimizer is compared with a control. An MLP, a linear model and a transformer LM are done in 18 to
# 77 updates at 1e-3; an optimizer that is still falling here is healthy whatever it would need.
USERS_UPDATES = 120
# Where it has done two thirds of the way by then, it is let finish: that is cheaper than a control.
NEAR_SHARE = 0.35
# Where the user's optimizer has done less than a tenth of the way by then, more of the same tells nothing.
SLOW_LOOK, SLOW_SHARE = 60, 0.9
CONTROL_RATES = (1e-3, 3e-3, 3e-4)
# CNNs need about 230 updates at 1e-3 to reach 1 %; plain nets of 12 to 20 layers 362 to 543, most of it on a plateau.
CONTROL_UPDATES = 300
LAST_UPDATES = 800
# What all runs together may cost, in training steps of the user's own: with batches of 16 every update is a whole one, and the plan
# to its end would take 2,000. Below 500 for the whole catalogue, this leaves room for the other runs.
MOST_STEPS = 180.0
# A loss that rises to this many times its start calls for a run with clipped gradients before the rate is blamed.
RISE = 2.0
# The gradient norm that makes a schedule tuned for clipping usable (recurrent language models clip at 0.25 to 1).
CLIP = 0.25
# Flat: the loss fell by less than this part of what is left, over this many updates.
FLAT_SHARE, FLAT_UPDATES = 0.02, 40
# Dead: no change at all beyond float32 rounding over this many updates.
DEAD_UPDATES = 30


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run on the batch.

    losses: per counted prediction, before each update. share: what is left at the end of the way from the best constant
    prediction to the floor. fit: the goal was reached. flat: no longer falling. dead: it did not change at all in the last updates.
    broken: not finite.
    update_ratio: size of one update relative to the weights. clip: gradient norm it was clipped to.
    """

    optimizer: str
    users: bool
    losses: tuple[float, ...]
    accuracy: float | None
    share: float
    fit: bool
    flat: bool
    dead: bool
    broken: bool
    update_ratio: float | None
    clip: float | None

    def rise(self, goal: Goal) -> float:
        """Its highest loss, in multiples of what it started at (or of the best constant's, if that is more)."""
        if self.broken:
            return math.inf
        start = max(self.losses[0], goal.constant) - goal.floor
        return (max(self.losses) - goal.floor) / max(start, 1e-12)

    @property
    def unmoved(self) -> bool:
        """Whether the loss is at its end where it was at its start, and was so all the time: no update changed it."""
        return self.dead and _still(list(self.losses))

    @property
    def end(self) -> float:
        """The loss it ended at: the median of its last ten."""
        return median(self.losses[-10:])


@dataclass(frozen=True, kw_only=True)
class OverfitBatch:
    """How well one batch can be learned by heart. Dropout, weight decay and schedules off, all random numbers frozen.

    cut: the plan was ended because it had cost enough. samples, predictions: in the batch. parameters: trainable numbers.
    goal: what counts as learned, and the known levels.
    turned: the loss called backward on is the torch loss times a negative number, or one written by hand that falls as every
    prediction gets worse. table: prediction against target at the end.
    seen: what the network was given. covered: the part of the trainable parameters that the user's optimizer holds.
    """

    samples: int
    predictions: int
    parameters: int
    covered: float
    start: float
    goal: Goal
    turned: bool
    cut: bool
    runs: tuple[Run, ...]
    table: tuple[tuple[str, str, str], ...]
    seen: Samples | None
    loss_place: Place | None
    optimizer_place: Place | None = None

    @property
    def best(self) -> Run:
        """The run that got furthest."""
        return min(self.runs, key=lambda run: (not run.fit, math.inf if math.isnan(run.share) else run.share))

    @property
    def users(self) -> Run:
        """The better of the user's optimizer by itself and, where that broke, with gradients clipped."""
        return min((run for run in self.runs if run.users), key=lambda run: run.share)


@dataclass(frozen=True, kw_only=True)
class _Start:
    batch: Any
    goal: Goal
    loss: float
    turned: bool
    seen: Samples | None
    place: Place | None
    predictions: int


@probe
def overfit(sandbox: Sandbox) -> OverfitBatch:
    """Train on a few samples of the first batch; on the whole batch where the user's code cannot take a part of one."""
    first = sandbox.feed.first
    start = _begin(sandbox, first)
    runs: list[Run] = []
    table: list[tuple[str, str, str]] = []
    end = sandbox.meter.until(MOST_STEPS)
    cut = False
    for kind, rate, limit in [("users", 0.0, SLOW_LOOK)] if start.turned else _plan(runs, start.goal):
        cut = sandbox.meter.train_steps >= end
        if cut:
            break
        runs.append(_run(sandbox, start, table, kind=kind, rate=rate, limit=limit, end=end))
    if not runs:
        raise CannotMeasure("the run's limit of training steps was used up before a batch could be learned by heart")
    cut = cut or (sandbox.meter.train_steps >= end and not runs[-1].fit)
    with sandbox.trial():
        leaves = trainable(sandbox)
        total = sum(p.numel() for p in leaves)
        held = {id(p) for group in sandbox.optimizer.param_groups for p in group["params"]}
        covered = sum(p.numel() for p in leaves if id(p) in held) / max(1, total)
    return OverfitBatch(
        samples=batches.size(start.batch),
        predictions=start.predictions,
        parameters=total,
        covered=covered,
        start=start.loss,
        goal=start.goal,
        turned=start.turned,
        cut=cut,
        runs=tuple(runs),
        table=tuple(table),
        seen=start.seen,
        loss_place=start.place,
        optimizer_place=sandbox.setup.origins.get("optimizer"),
    )


def _plan(runs: list[Run], goal: Goal) -> Iterator[tuple[str, float, int]]:
    """Which run comes next, given those done: the user's, clipped if it broke, Adam at three rates, and a long last one."""
    yield "users", 0.0, CONTROL_UPDATES
    if runs[-1].fit:
        return
    if runs[-1].rise(goal) > RISE:
        yield "clipped", 0.0, CONTROL_UPDATES
    for rate in CONTROL_RATES:
        yield "control", rate, CONTROL_UPDATES
        last = runs[-1]
        if last.fit or last.dead or not goal.exact:
            return
        if last.flat and goal.level_at(last.end) is not None and last.accuracy == 1.0:
            return  # every answer right and the loss stuck at a level with a name: other rates end there too
    if min(run.share for run in runs) > 0.5:
        yield "control", CONTROL_RATES[0], LAST_UPDATES


def _begin(sandbox: Sandbox, first: Any) -> _Start:
    """The batch to learn: few enough samples for the model's size, of as many classes as there are."""
    with sandbox.trial():
        parameters = sum(p.numel() for p in trainable(sandbox))
    for indices in variety(first):
        small = first if indices is None else batches.take(first, indices)
        try:
            found = _look(sandbox, small)
        except TargetError:
            if indices is None:
                raise
            continue
        fewer = None if indices is None else smallest(batches.size(small), found.predictions, parameters)
        if indices is not None and fewer is not None and fewer < len(indices):
            return _look(sandbox, batches.take(first, indices[:fewer]))
        return found
    raise AssertionError("variety() ends with the whole batch")


def _look(sandbox: Sandbox, batch: Any) -> _Start:
    given: list[Any] = []

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module is sandbox.model and not given:
            given.append(inputs)

    with sandbox.trial(), without_dropout(sandbox.model) as handlers:
        by_hand = HandMade(batch)
        outcome = sandbox.forward(batch, calls=(*handlers, by_hand.see), modules=(see,))
        call = data_loss(outcome)
        loss = mean_loss(outcome)
        goal = goal_of(outcome, batch)
        turned = not outcome.calls and outcome.loss.requires_grad and by_hand.turned(outcome.loss)
        if call is not None and call.value.numel() == 1 and float(call.value) != 0:
            ratio = float(outcome.loss.detach()) / float(call.value.detach())
            turned = ratio < 0 and abs(float(call.value)) > 1e-3 and _is_multiple(outcome, call)
        return _Start(
            batch=batch,
            goal=goal,
            loss=loss,
            turned=turned,
            seen=preview(given[0] if given and given[0] else batches.split(batch)[0], batch),
            place=call.place if call is not None else None,
            predictions=_predictions(call, batch),
        )


def _is_multiple(outcome: Outcome, call: LossCall) -> bool:
    """Whether the loss is the call's value times a constant: its derivative by that value says so exactly."""
    if not outcome.loss.requires_grad:
        return False
    (slope,) = torch.autograd.grad(outcome.loss, [call.value], retain_graph=False, allow_unused=True)
    if slope is None:
        return False
    whole = float(slope) * float(call.value.detach())
    return float(slope) < 0 and math.isclose(whole, float(outcome.loss.detach()), rel_tol=1e-4)


def _predictions(call: LossCall | None, batch: Any) -> int:
    if call is None:
        return batches.size(batch)
    return call.target.numel() if isinstance(call.target, Tensor) else batches.size(batch)


def _run(
    sandbox: Sandbox,
    start: _Start,
    table: list[tuple[str, str, str]],
    *,
    kind: str,
    rate: float,
    limit: int,
    end: float,
) -> Run:
    """One run of at most `limit` updates, and none once the meter is at `end`."""
    goal = start.goal
    losses: list[float] = []
    right: float | None = None
    ratio: float | None = None
    fit = dead = False
    with sandbox.trial(), without_dropout(sandbox.model) as handlers:
        if kind == "control":
            optimizer, ramp = control_optimizer(sandbox, rate), 0
        else:
            optimizer, ramp = users_optimizer(sandbox, decay=False)
        clip = CLIP if kind == "clipped" else None
        steps = train(sandbox, repeat(start.batch, limit), optimizer, ramp=ramp, clip=clip, frozen=True, calls=handlers)
        before: list[Tensor] = []
        outcome: Outcome | None = None
        for update in steps:
            outcome = update.outcome
            losses.append(mean_loss(outcome))
            index, call = update.index, data_loss(outcome)
            if losses[-1] <= goal.value:
                right = accuracy(call)
                fit = right is None or right >= goal.accuracy
                if fit or losses[-1] < goal.lowest:
                    break
            if kind == "users" and index == 9:
                before = [p.detach().clone() for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
            elif before:
                ratio = _moved([p for g in optimizer.param_groups for p in g["params"] if p.requires_grad], before)
                before = []
            dead = index >= DEAD_UPDATES and _still(losses[-DEAD_UPDATES:])
            if dead or not math.isfinite(losses[-1]) or sandbox.meter.train_steps >= end:
                break
            if kind != "control" and _slow(losses, goal):
                break
            if limit == CONTROL_UPDATES and index >= limit // 2 and index % 10 == 0 and _flat(losses, goal.floor):
                break
        call = None if outcome is None else data_loss(outcome)
        right = accuracy(call) if right is None else right
        if call is not None:
            table[:] = predictions(call)
        name = named_optimizer(optimizer)
    broken = not all(map(math.isfinite, losses))
    return Run(
        optimizer=name + (f", gradient clipped to {clip}" if clip else ""),
        users=kind != "control",
        losses=tuple(losses),
        accuracy=right,
        share=math.inf if broken else goal.share(median(losses[-10:]) if not fit else losses[-1]),
        fit=fit,
        flat=_flat(losses, goal.floor),
        dead=dead,
        broken=broken,
        update_ratio=ratio,
        clip=clip,
    )


def _slow(losses: list[float], goal: Goal) -> bool:
    """Whether to go over to a control: at 60 updates hardly under way, or at 120 not near the goal."""
    if len(losses) not in (SLOW_LOOK, USERS_UPDATES):
        return False
    return goal.share(median(losses[-10:])) > (SLOW_SHARE if len(losses) == SLOW_LOOK else NEAR_SHARE)


def _flat(losses: list[float], floor: float) -> bool:
    if len(losses) < 2 * FLAT_UPDATES or not all(map(math.isfinite, losses)):
        return False
    was, now = median(losses[-2 * FLAT_UPDATES : -FLAT_UPDATES]), median(losses[-FLAT_UPDATES:])
    return was - now < FLAT_SHARE * max(was - floor, 1e-12)


def _still(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses)) and max(losses) - min(losses) <= 1e-6 * max(abs(losses[0]), 1e-12)


def _moved(now: list[Tensor], before: list[Tensor]) -> float | None:
    """The length of an update relative to that of the weights."""
    with torch.no_grad():
        if not now or any(p.layout is not torch.strided for p in now):
            return None
        change = torch.stack([t.norm() for t in torch._foreach_sub([p.detach() for p in now], before)]).norm()
        length = torch.stack(list(torch._foreach_norm(before))).norm()
        return float(change / length.clamp_min(1e-12))
