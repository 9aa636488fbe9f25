"""Does a network learn more with its inputs than without them, on samples it has not seen before?

Three runs from the same start, with the same targets in the same order: on the real inputs, on constant ones and on those of other
samples. What is compared is the loss of each sample before the update that uses it, and no sample comes twice: memory is no help.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.meter import ENOUGH
from nncheck.lab.micro import micro_batches, sample_losses
from nncheck.lab.objective import detach_all
from nncheck.lab.pairing import constant_inputs, input_tensors, other_targets, permuted_inputs, same_tensors
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot, seed_everything
from nncheck.lab.training import control_optimizer, named_optimizer, train, users_optimizer, without_dropout
from nncheck.observe.watch import Handler
from nncheck.probes.overfit import CONTROL_RATES, OverfitBatch
from nncheck.probes.short_run import KEPT_NUMBERS, ShortRun
from nncheck.registry import probe

# Updates after which the runs are compared; later looks only if the earlier ones decide nothing. 300 is where weak signals
# (a final gap of 0.06) show with t = 14.
LOOKS = (32, 64, 96, 128, 192, 256)
# The runs are taken up again where they stood if the model is small enough to keep three of them beside each other (see
# `short_run.KEPT_NUMBERS`); else they are run again from the start, and looked at less often.
FEW_LOOKS = (32, 96, 256)
# What all runs together may cost, in training steps of the user's own. Four batches of 16 for 1,000 samples, three times, are 192.
MOST_STEPS = 240.0
# At a look the real run must be ahead of both others by this many standard errors, over the samples of its second half.
AHEAD = 4.0
# ... and by this part of the loss without inputs.
GAP = 0.01

Losses = list[tuple[float, ...]]
Change = Callable[[int, list[Any]], Any]


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How far the real inputs are ahead of another run: mean difference of the losses, its t, and how many pairs."""

    gap: float
    t: float
    pairs: int


@dataclass(frozen=True, kw_only=True)
class InputBaseline:
    """Loss per update of the three runs, and the lead of the real inputs over each of the other two in the second half.

    helps: both leads are certain. ignored: largest relative difference between the outputs for real and constant inputs after
    training (None if not asked, because the inputs help; NaN if there was nothing to compare). learned_in: updates in which this
    optimizer learned one batch by heart, None if it could not.
    how: what the constant inputs are. last: no later look could follow, for want of fresh samples, time or looks.
    """

    optimizer: str
    updates: int
    samples: int
    real: tuple[float, ...]
    constant: tuple[float, ...]
    permuted: tuple[float, ...]
    over_constant: Lead
    over_permuted: Lead
    helps: bool
    ignored: float | None
    learned_in: int | None
    how: str
    last: bool = True


class _Arm:
    """One of the three runs: the same batches with their inputs changed, taken up again or begun anew at each look."""

    def __init__(self, sandbox: Sandbox, rate: float | None, change: Change) -> None:
        self._sandbox, self._rate, self._change = sandbox, rate, change
        self.losses: Losses = []
        self.optimizer = ""
        self.apart = math.nan
        self._stand: Snapshot | None = None
        self._control: Optimizer | None = None

    def take_up(self, losses: Losses, stand: Snapshot, optimizer: str) -> None:
        """Begin where another run of the same kind ended."""
        self.losses, self._stand, self.optimizer = losses, stand, optimizer

    def run(self, micro: list[Any], *, keep: bool, reference: Any = None) -> None:
        """Train until every micro-batch was used once; where it stands then is kept if it is needed again.

        With a `reference` batch, `apart` is then how far the outputs for real inputs are from those for constant ones.
        """
        if len(self.losses) >= len(micro) and reference is None:
            return
        if self._stand is None:
            self.losses = []
            self._control = None
        begin, sandbox = len(self.losses), self._sandbox
        with sandbox.trial(start=self._stand), without_dropout(sandbox.model) as handlers:
            ramp = 0
            if self._rate is None:
                optimizer, ramp = users_optimizer(sandbox)
            else:
                # What Adam has gathered lives in the object itself, which no trial puts back.
                optimizer = self._control = self._control or control_optimizer(sandbox, self._rate)
            self.optimizer = named_optimizer(optimizer)
            given = (self._change(index, micro) for index in range(begin, len(micro)))
            for update in train(sandbox, given, optimizer, ramp=ramp, begin=begin, calls=handlers):
                self.losses.append(sample_losses(update.outcome, batches.size(micro[update.index])))
            optimizer.zero_grad(set_to_none=True)
            if reference is not None:
                # A model that cannot take constant inputs leaves nothing to compare.
                with suppress(TargetError):
                    self.apart = _difference(sandbox, micro[-1], reference, handlers)
            stand = sandbox.checkpoint() if keep else None
        self._stand = stand
        if stand is None:
            self._control = None  # what Adam has gathered is twice the parameters


@probe
def input_baseline(sandbox: Sandbox, short: ShortRun, batch: OverfitBatch) -> InputBaseline:
    """Run the three with the user's optimizer; if that shows nothing, with Adam at a rate that learned one batch by heart."""
    micro = micro_batches(sandbox, LOOKS[0], whole=short.whole)
    if len(micro) < 2:
        raise CannotMeasure("one epoch has a single batch: there are no fresh samples to compare on")
    _require_pairs(sandbox, micro, short.checkpoint)
    end = sandbox.meter.until(MOST_STEPS)
    users = not short.diverged and batch.users.fit and batch.users.clip is None
    shared = users and short.checkpoint is not None  # the run on the real inputs is there already
    if sandbox.meter.train_steps + _price(sandbox, LOOKS[0], short) * (2 / 3 if shared else 1) > end:
        raise CannotMeasure(ENOUGH)
    control = next((r for r in CONTROL_RATES if batch.best.optimizer == f"Adam(lr={r:g})"), CONTROL_RATES[0])
    if users:
        found = _compare(sandbox, short, batch, rate=None, end=end)
        if found.helps or _is_control(sandbox) or sandbox.meter.train_steps + _price(sandbox, LOOKS[0], short) > end:
            return found
    return _compare(sandbox, short, batch, rate=control, end=end)


def _price(sandbox: Sandbox, updates: int, short: ShortRun) -> float:
    """What so many updates of the three runs cost."""
    return 3 * updates * short.size / max(1, sandbox.feed.batch_size)


def _compare(
    sandbox: Sandbox, short: ShortRun, batch: OverfitBatch, *, rate: float | None, end: float
) -> InputBaseline:
    """The three runs with one optimizer (None: the user's): look, and go on while undecided and fresh samples are left."""
    reference = sandbox.feed.first
    keep = batch.parameters <= KEPT_NUMBERS
    real = _Arm(sandbox, rate, lambda i, given: given[i])
    constant = _Arm(sandbox, rate, lambda i, given: constant_inputs(given[i], reference))
    permuted = _Arm(sandbox, rate, lambda i, given: permuted_inputs(given[i], given[_partner(i, given)]))
    if rate is None and short.checkpoint is not None:
        real.take_up(list(short.samples[: short.fresh]), short.checkpoint, short.optimizer)
    looks = LOOKS if keep else FEW_LOOKS
    for look, following in zip(looks, (*looks[1:], None), strict=True):
        micro = micro_batches(sandbox, look, whole=short.whole)
        last = following is None or len(micro) < look
        if following is not None:
            # Runs that were not kept are begun anew at the next look.
            further = following - len(real.losses) if keep else look + following
            last = last or sandbox.meter.train_steps + _price(sandbox, further, short) > end
        real.run(micro, keep=keep and not last, reference=reference if last else None)
        try:
            constant.run(micro, keep=keep and not last)
            permuted.run(micro, keep=keep and not last)
        except TargetError as error:
            raise CannotMeasure(f"the model cannot take constant or exchanged inputs: {error.message}") from error
        over_constant, over_permuted = lead(constant.losses, real.losses), lead(permuted.losses, real.losses)
        helps = min(over_constant.t, over_permuted.t) > AHEAD
        helps = helps and over_constant.gap > GAP * abs(_mean(constant.losses))
        sound = _finite(real, constant, permuted)
        if helps or last or not sound:
            break
    return InputBaseline(
        optimizer=real.optimizer,
        updates=len(real.losses),
        samples=sum(batches.size(b) for b in micro),
        real=_means(real.losses),
        constant=_means(constant.losses),
        permuted=_means(permuted.losses),
        over_constant=over_constant,
        over_permuted=over_permuted,
        helps=helps,
        ignored=real.apart if last and sound and not helps else None,
        learned_in=_learned_in(real.optimizer, batch),
        how=_how(micro[0]),
        last=last,
    )


def _is_control(sandbox: Sandbox) -> bool:
    """Whether the user's optimizer is as good as a control: Adam at one of its rates."""
    rates = [float(group.get("lr", 0.0)) for group in sandbox.optimizer.param_groups]
    adam = type(sandbox.optimizer).__name__ in ("Adam", "AdamW")
    return adam and min(CONTROL_RATES) <= min(rates) and max(rates) <= max(CONTROL_RATES)


def _learned_in(optimizer: str, batch: OverfitBatch) -> int | None:
    return min((len(run.losses) for run in batch.runs if run.fit and run.optimizer == optimizer), default=None)


def _partner(index: int, micro: list[Any]) -> int:
    """Neighbours give each other their inputs, so that these too come once."""
    other = index ^ 1
    return other if other < len(micro) else index - 1


def _finite(*arms: _Arm) -> bool:
    return all(math.isfinite(x) for arm in arms for one in arm.losses for x in one)


def _means(losses: Losses) -> tuple[float, ...]:
    return tuple(sum(one) / max(1, len(one)) for one in losses)


def lead(other: Losses, real: Losses) -> Lead:
    """The paired lead of `real` over the second half of the updates both made."""
    updates = min(len(other), len(real))
    pairs = [
        b - a
        for one, two in zip(real[updates // 2 : updates], other[updates // 2 : updates], strict=True)
        if len(one) == len(two)
        for a, b in zip(one, two, strict=True)
    ]
    number = len(pairs)
    if number < 2 or not all(map(math.isfinite, pairs)):
        return Lead(gap=math.nan, t=0.0, pairs=number)
    mean = sum(pairs) / number
    error = math.sqrt(sum((d - mean) ** 2 for d in pairs) / (number - 1) / number)
    return Lead(gap=mean, t=mean / error if error > 0 else 0.0, pairs=number)


def _mean(losses: Losses) -> float:
    later = [x for one in losses[len(losses) // 2 :] for x in one]
    return sum(later) / max(1, len(later))


def _require_pairs(sandbox: Sandbox, micro: list[Any], start: Snapshot | None) -> None:
    """Raise CannotMeasure unless inputs and targets are two things, and it matters which belongs to which.

    Asked after some training: an output that starts at zero has the same loss for all targets.
    """
    one, donor = micro[0], micro[-1]
    swapped = other_targets(one, donor)
    if batches.split(one)[1] is None or (swapped is None and other_targets(one, one) is None):
        raise CannotMeasure("the batch has no target apart from its input")
    permuted = permuted_inputs(one, donor)
    if not input_tensors(one) or same_tensors(
        [t for _, t in input_tensors(one)], [t for _, t in input_tensors(permuted)]
    ):
        raise CannotMeasure("no input tensor is known that could be exchanged between samples")
    if swapped is not None and same_tensors(one, swapped):
        raise CannotMeasure("all targets are the same")

    def look(given: Any) -> tuple[float, tuple[Tensor, ...]]:
        seed_everything(sandbox.seed)
        outcome = sandbox.forward(given, calls=handlers)
        return float(outcome.loss.detach()), tuple(call.target.detach() for call in outcome.calls)

    with sandbox.trial(start=start), without_dropout(sandbox.model) as handlers:
        if start is None:
            for _ in train(sandbox, micro[:2], control_optimizer(sandbox, CONTROL_RATES[0]), calls=handlers):
                pass
        loss, targets = look(one)
        try:
            deaf = swapped is not None and look(swapped)[0] == loss
        except TargetError as error:  # transcripts joined in a row belong to their lengths, which stand in another part
            raise CannotMeasure(f"the loss cannot take targets of other samples: {error.message}") from error
        if deaf:
            raise CannotMeasure("the loss does not depend on the batch's targets")
        try:
            exchanged = look(permuted)[1]
        except TargetError as error:
            raise CannotMeasure(f"the model cannot take exchanged inputs: {error.message}") from error
        if not same_tensors(targets, exchanged):
            raise CannotMeasure("the loss compares with the inputs themselves")


def _difference(sandbox: Sandbox, batch: Any, reference: Any, handlers: tuple[Handler, ...]) -> float:
    """How far loss and outputs for the real inputs are from those for constant ones, relative to the largest value."""
    found = []
    for given in (batch, constant_inputs(batch, reference)):
        seed_everything(sandbox.seed)
        outcome = sandbox.forward(given, calls=handlers)
        found.append(detach_all((outcome.loss, outcome.output)))
    return _apart(*found)


def _apart(real: Any, same: Any) -> float:
    largest = math.nan
    for (_, a), (_, b) in zip(batches.named_tensors(real), batches.named_tensors(same), strict=False):
        if not a.dtype.is_floating_point or a.shape != b.shape or not a.numel():
            continue
        scale = float(a.abs().max())
        if not math.isfinite(scale):
            return math.nan
        apart = float((a - b).abs().max()) / max(scale, 1e-30)
        largest = apart if math.isnan(largest) else max(largest, apart)
    return largest


def _how(batch: Any) -> str:
    floats = {t.dtype.is_floating_point for _, t in input_tensors(batch)}
    if floats == {True}:
        return "their mean over the first batch"
    return "the first sample's" if floats == {False} else "their mean (integers: the first sample's)"
