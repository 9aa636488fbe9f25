"""Which learning rates this network can be trained at: a range test, and short runs at other rates where the user's is in doubt."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.held import Level, fall, level_if_possible
from nncheck.lab.meter import ENOUGH
from nncheck.lab.micro import micro_batches, micro_size, sample_losses
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import control_optimizer, named_optimizer, train, users_optimizer, without_dropout
from nncheck.observe.pretrained import trained_before
from nncheck.observe.step_source import clips
from nncheck.probes.rehearsal import Rehearsal, course
from nncheck.probes.short_run import UPDATES as SHORT, ShortRun
from nncheck.registry import probe

# fastai's range test: 1e-7 to 10 over 100 updates, stopped when the smoothed loss is four times its best. On quarter batches
# these are at most 24 training steps; where a batch cannot be cut, fewer updates.
LOWEST, HIGHEST, UPDATES, COST = 1e-7, 10.0, 96, 24.0
FEWEST = 12
BLOWN_UP = 4.0
# The smoothing of the losses (with bias correction): about five updates, half a decade of rates.
SMOOTH = 0.8
# Karpathy's safe rate for Adam.
CONTROL_RATE = 3e-4
# A fall of the loss that is no chance (as in the rehearsal's own controls); one that needs no further look, and a lead over a run
# that did not fail. Squared errors have few large ones among them: even a fall by nine tenths has t = 5.
SURE, CERTAIN, FAR_AHEAD = 3.0, 4.0, 6.0
# A fall by less than this part of the loss settles nothing: the next lower rate may well do more (Adam(lr=10) on digits with
# BatchNorm: 0.1 takes off 7 %, with t = 4; 0.01 takes off 88 %).
WORTH = 0.1
# Parts of the user's rate that are tried after a run that fails, the first at most a ninth of where the test blew up. After one
# that hardly moves: parts of the rate with the lowest loss (fastai suggests a tenth), or multiples where there is none.
LOWER, BELOW_MINIMUM, HIGHER = (0.1, 0.01, 0.001), (0.1, 0.01), (1000.0, 100.0)
# Updates of less than this part of the weights are looked at again at higher rates. Those of Adam(1e-3) and SGD(0.1) are 1e-2 to
# 1e-3 for the first hundred, those of an Adam at 1e-6 3e-5, of an SGD at 1e-5 7e-7.
SLOW = 3e-4
# A rate within a factor of three of where the test blew up, or ten times that of the lowest loss, calls for a look at lower ones.
NEAR, BEYOND = 3.0, 10.0
# The known-good optimizer runs where its updates cost at most half a training step; the runs at other rates may cost so much.
CONTROL_PRICE, MOST_TRIED = 0.5, 60.0


@dataclass(frozen=True, kw_only=True)
class RateRun:
    """`SHORT` updates on the quarter batches of `ShortRun`: by the user's optimizer with its rates times `factor`, or by Adam.

    losses: the loss of each sample before the update that used it, update by update. before, after: on the samples of
    `Rehearsal.seen`. lead: how far below the rehearsal's it ends there, and its t. rate: of the leading group.
    """

    optimizer: str
    factor: float | None
    rate: float
    losses: tuple[tuple[float, ...], ...]
    before: Level | None
    after: Level | None
    lead: tuple[float, float]

    @property
    def fall(self) -> tuple[float, float]:
        """(mean fall of the loss on the same samples, its t)."""
        return fall(self.before, self.after) if self.before and self.after else (math.nan, 0.0)


@dataclass(frozen=True, kw_only=True)
class RateRange:
    """The range test (`rates` rise, `losses` before each update, `smooth`), and what was tried beside it.

    rate: the user's, of the group that has the highest. ended: the test stopped because the loss blew up. momentum, betas: of the
    user's optimizer. control: Adam(3e-4). tried: the user's optimizer at other rates, where its own is in doubt.
    pretrained: why the model is thought to be trained already. clips: the loop may well clip gradients: it says so, or the
    network is recurrent.
    """

    optimizer: str
    rate: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    ended: bool
    momentum: float | None
    betas: tuple[float, float] | None
    control: RateRun | None
    tried: tuple[RateRun, ...]
    pretrained: str
    clips: bool

    @property
    def diverges(self) -> float | None:
        """The rate at which the test was stopped."""
        return self.rates[-1] if self.ended else None

    @property
    def minimum(self) -> float | None:
        """The rate at which the smoothed loss was lowest; None if it never fell by more than its noise."""
        return self.rates[self._lowest] if self._fell else None

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss fell fastest before its minimum."""
        falls = [a - b for a, b in zip(self.smooth[: self._lowest], self.smooth[1 : self._lowest + 1], strict=True)]
        return self.rates[falls.index(max(falls))] if falls and self._fell else None

    @property
    def valley(self) -> float | None:
        """fastai's valley: two thirds along the longest stretch on which the smoothed loss falls."""
        best = run = (0, 0)
        for i in range(1, len(self.smooth)):
            run = (run[0], i) if self.smooth[i] < self.smooth[i - 1] else (i, i)
            best = run if run[1] - run[0] > best[1] - best[0] else best
        return self.rates[best[0] + (best[1] - best[0]) * 2 // 3] if self._fell else None

    @property
    def searchable(self) -> tuple[float, float] | None:
        """Bounds of a log-uniform search: from where a tenth of the fall is done to a third of where it blows up."""
        if not self._fell:
            return None
        start, low = self._start, self.smooth[self._lowest]
        first = next(r for r, s in zip(self.rates, self.smooth, strict=True) if s <= start - 0.1 * (start - low))
        last = min(self.rates[self._lowest], self.rates[-1] / 3)
        return (first, last) if first < last else (last / 10, last)

    @property
    def _lowest(self) -> int:
        return self.smooth.index(min(self.smooth)) if self.smooth else 0

    @property
    def _start(self) -> float:
        head = self.losses[: max(3, len(self.losses) // 5)]
        return sum(head) / max(1, len(head))

    @property
    def _fell(self) -> bool:
        head = self.losses[: max(3, len(self.losses) // 5)]
        if len(head) < 3:
            return False
        noise = math.sqrt(sum((x - self._start) ** 2 for x in head) / (len(head) - 1) / (1 / (1 - SMOOTH)))
        return self._start - min(self.smooth) > 3 * max(noise, 1e-9)


@probe
def rate_range(sandbox: Sandbox, run: Rehearsal, short: ShortRun) -> RateRange:
    """The range test, Adam(3e-4), and then the user's optimizer at lower rates if it fails, at higher ones if it hardly moves."""
    groups = sandbox.optimizer.param_groups
    if isinstance(sandbox.optimizer, torch.optim.LBFGS):
        raise CannotMeasure("LBFGS looks for its step by itself")
    if not all(isinstance(group.get("lr"), (int, float, torch.Tensor)) for group in groups):
        raise CannotMeasure(f"{type(sandbox.optimizer).__name__} has no learning rate that could be changed")
    rate = leading_rate(sandbox)
    if rate <= 0:
        raise CannotMeasure("the rate is 0")
    if not sandbox.meter.affords(COST):
        raise CannotMeasure(ENOUGH)
    rates, losses, smooth, ended = _range_test(sandbox, rate, whole=short.whole)
    first = groups[0]
    betas = first.get("betas")
    momentum = first.get("momentum")
    price = short.size / max(1, sandbox.feed.batch_size)
    found = RateRange(
        optimizer=short.optimizer,
        rate=rate,
        rates=tuple(rates),
        losses=tuple(losses),
        smooth=tuple(smooth),
        ended=ended,
        momentum=float(momentum) if isinstance(momentum, (int, float)) and not first.get("dampening") else None,
        betas=(float(betas[0]), float(betas[1])) if isinstance(betas, (tuple, list)) and len(betas) == 2 else None,
        control=_short(sandbox, run, short, None)
        if price <= CONTROL_PRICE and sandbox.meter.affords(SHORT * price)
        else None,
        tried=(),
        pretrained=trained_before(sandbox),
        clips=clips(sandbox.setup)
        or any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in sandbox.model.modules()),
    )
    tried: list[RateRun] = []
    end = sandbox.meter.train_steps + MOST_TRIED
    for factor in _lower(found) if harmed(run, found) else _higher(found) if slow(run) else ():
        if not sandbox.meter.affords(SHORT * price) or (tried and sandbox.meter.train_steps + SHORT * price > end):
            break
        one = _short(sandbox, run, short, factor)
        if one is None:
            break
        tried.append(one)
        if factor < 1 and settled(one, run.diverged):
            break
    return dataclasses.replace(found, tried=tuple(tried))


def settled(one: RateRun, diverged: bool) -> bool:
    """Whether this lower rate trains the network beyond doubt, where the set-up's own does not."""
    gain, t = one.fall
    worth = one.before is not None and gain > WORTH * abs(one.before.mean)
    return worth and t >= CERTAIN and (diverged or one.lead[1] >= FAR_AHEAD)


def leading_rate(sandbox: Sandbox) -> float:
    """The highest of the groups' rates, at what a warm-up leads to."""
    with sandbox.trial():
        optimizer, _ = users_optimizer(sandbox)
        return max((float(group["lr"]) for group in optimizer.param_groups), default=0.0)


def harmed(run: Rehearsal, found: RateRange) -> bool:
    """Whether the rehearsal failed to lower the loss, or the user's rate is beyond what the range test bore."""
    if run.diverged or (run.seen.before is not None and run.seen.fall[1] < SURE and not slow(run)):
        return True
    beyond = found.diverges is not None and found.rate > found.diverges / NEAR
    return beyond or (found.minimum is not None and found.rate > BEYOND * found.minimum)


def _lower(found: RateRange) -> tuple[float, ...]:
    """Parts of the user's rate: a tenth of it, or of where the test blew up if that is lower; and further down."""
    first = LOWER[0]
    if found.diverges is not None:
        first = min(first, _rounded(found.diverges / NEAR**2) / found.rate)
    return tuple(first * part / LOWER[0] for part in LOWER)


def _higher(found: RateRange) -> tuple[float, ...]:
    """Multiples of the user's rate: up to parts of the one where the loss was lowest."""
    if found.minimum is None:
        return HIGHER
    return tuple(f for part in BELOW_MINIMUM if (f := _rounded(part * found.minimum) / found.rate) > 1)


def _rounded(rate: float) -> float:
    return float(f"{rate:.1g}")


def slow(run: Rehearsal) -> bool:
    """Whether the middle one of its weight matrices hardly moves."""
    ratios = sorted(m.ratio for m in run.moves if m.matrix and m.ratio is not None and m.rate > 0)
    return bool(ratios) and ratios[len(ratios) // 2] < SLOW


def _range_test(sandbox: Sandbox, rate: float, *, whole: bool) -> tuple[list[float], list[float], list[float], bool]:
    size = sandbox.feed.batch_size if whole else micro_size(sandbox)
    count = max(FEWEST, min(UPDATES, int(COST * sandbox.feed.batch_size / max(1, size))))
    given = micro_batches(sandbox, min(count, SHORT), whole=whole)
    low, high = min(LOWEST * (1 if rate < 1e-5 else 10), rate / 10), max(HIGHEST, 10 * rate)
    rates = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
    losses: list[float] = []
    smooth: list[float] = []
    mean = 0.0
    with sandbox.trial(), without_dropout(sandbox.model) as handlers:
        optimizer, _ = users_optimizer(sandbox)
        shares = [float(group["lr"]) / rate for group in optimizer.param_groups]

        def put(now: float) -> None:
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = now * share

        put(rates[0])
        order = (given[i % len(given)] for i in range(count))
        for update in train(sandbox, order, optimizer, calls=handlers):
            losses.append(update.loss)
            if not math.isfinite(update.loss):
                return rates[: len(smooth) + 1], [*losses[:-1], math.inf], [*smooth, math.inf], True
            mean = SMOOTH * mean + (1 - SMOOTH) * update.loss
            smooth.append(mean / (1 - SMOOTH ** len(losses)))
            best = min(smooth)
            # A loss that goes below zero has no multiples: the rise is measured by what the first losses are.
            limit = BLOWN_UP * best if best > 0 else best + (BLOWN_UP - 1) * max(abs(losses[0]), abs(best))
            if smooth[-1] > limit and len(losses) > FEWEST // 2:
                return rates[: len(smooth)], losses, smooth, True
            if len(losses) < count:
                put(rates[len(losses)])
    return rates[: len(smooth)], losses, smooth, False


def _short(sandbox: Sandbox, run: Rehearsal, short: ShortRun, factor: float | None) -> RateRun | None:
    """The short run again, on its batches and random numbers, at other rates; Adam(3e-4) without a factor.

    None where the model cannot take whole batches and parts of them in turns (a state that is carried on).
    """
    fresh = micro_batches(sandbox, SHORT, whole=short.whole)
    order = [fresh[i % len(fresh)] for i in range(SHORT)]
    seen = course(sandbox).seen
    losses: list[tuple[float, ...]] = []
    with sandbox.trial():
        before = level_if_possible(sandbox, seen)
        ramp = 0
        if factor is None:
            optimizer: Any = control_optimizer(sandbox, CONTROL_RATE)
        else:
            optimizer, ramp = users_optimizer(sandbox)
            for group in optimizer.param_groups:
                group["lr"] = float(group["lr"]) * factor
        rate = max(float(group["lr"]) for group in optimizer.param_groups)
        name = named_optimizer(optimizer)
        try:
            with without_dropout(sandbox.model) as handlers:
                for update in train(sandbox, order, optimizer, ramp=ramp, calls=handlers):
                    losses.append(sample_losses(update.outcome, batches.size(order[update.index])))
        except TargetError:
            return None
        after = level_if_possible(sandbox, seen)
    return RateRun(
        optimizer=name,
        factor=factor,
        rate=rate,
        losses=tuple(losses),
        before=before,
        after=after,
        lead=fall(run.seen.after, after) if run.seen.after is not None and after is not None else (math.nan, 0.0),
    )
