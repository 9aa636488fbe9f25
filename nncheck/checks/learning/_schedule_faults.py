"""What can be wrong with a schedule over the planned run, one rule each; read once a batch and once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nncheck.checks.learning._schedule_reading import Reading, by_batch
from nncheck.probes.lr_schedule import LrSchedule
from nncheck.verdict import Remedy

# A rate at 1 % of its peak trains next to nothing of what the peak does. Two drops by 10, rounded, are just at it: StepLR(30)
# over 90 epochs is there for its last third, a cosine to zero for 6 %, (1 - t)^4 for a third, 0.95^epoch over 200 epochs for 55 %.
LOW = 0.0101
# ... so a schedule that is there before a quarter of the run has another run in mind; before a tenth, no recipe at all.
EARLY, AT_ONCE = 0.25, 0.1
# Stepped after every batch, a decay without an end of its own that ends at so little of its rate, and as a decay by epochs would
# do its work in the same run (halve the rate at least), was written for epochs.
NOTHING_LEFT, HALVED, EARLY_FOR_EPOCHS = 1e-5, 0.5, 0.5
# Fewer updates than any training needs: what decays to 1 % within them and has no planned end was not written for updates.
FEW_UPDATES = 100
# A rate of exactly zero (up to rounding) trains nothing. A length rounded down leaves less than this part of the run.
ZERO, ZERO_TAIL = 1e-9, 0.1
# A cosine whose T_max is a fifth too short climbs back by 0.1 of its height: rounding and left-out warm-ups stay below.
CLIMB = 0.1
# Slanted schedules warm up for up to half of the run (pct_start=0.5, triangles); playbooks ask for at most a tenth.
LONG_WARM_UP = 0.55
# Stopped before this part of its total_steps, OneCycle's rate is still above 0.6 of the peak (a cosine from 30 % on).
CYCLE_SHARE = 0.6
# A cosine is above this part of its height in the first fifth of a cycle; one that was below the rest of it has restarted.
TOP = 0.9
RESTARTS = ("CosineAnnealingWarmRestarts", "CyclicLR")
ENDLESS = ("StepLR", "MultiStepLR", "ExponentialLR", "MultiplicativeLR")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong: `certain` makes it a failure. `unit`: its numbers count what it is not stepped by."""

    certain: bool
    summary: str
    expected: str
    cause: str
    remedy: Remedy
    unit: bool = False


def read(seen: LrSchedule) -> tuple[str, bool, Fault | None]:
    """How often the schedule is stepped, whether that was assumed, and what is wrong then.

    Where the user did not say it, the reading without a fault is the one meant; the form decides between two that are alike.
    """
    if seen.interval in ("step", "epoch"):
        unit = "update" if seen.interval == "step" else "epoch"
        return unit, False, find_fault(Reading(seen=seen, unit=unit))
    likely, other = ("update", "epoch") if by_batch(seen) else ("epoch", "update")
    fault = find_fault(Reading(seen=seen, unit=likely))
    if fault is None or find_fault(Reading(seen=seen, unit=other)) is not None:
        return likely, True, fault
    return other, True, None


def find_fault(reading: Reading) -> Fault | None:
    """The first rule that speaks."""
    return next(_faults(reading), None)


def find_unit_fault(reading: Reading) -> Fault | None:
    """The first rule that speaks of a schedule written for another unit than it is stepped by."""
    return next((fault for fault in _faults(reading) if fault.unit), None)


def _faults(reading: Reading) -> Iterator[Fault]:
    rules: tuple[Callable[[Reading], Fault | None], ...] = (
        _raises, _at_its_end, _first_epoch_at_zero, _marks_of_another_unit, _dies, _climbs, _warm_up, _zero_tail, _too_slow,
        _cut_off,
        _ends_at_the_top,
    )  # fmt: skip
    if len(reading.seen.relative) > 1:
        yield from (fault for rule in rules if (fault := rule(reading)) is not None)


def _raises(reading: Reading) -> Fault | None:
    seen, run = reading.seen, reading.run
    if seen.stops is None:
        return None
    after, error = seen.stops
    # Without a number of epochs there is one at least; the step after the last update is often left out.
    least = run if run is not None else (seen.batches if reading.unit == "update" and not seen.accumulates else None)
    if least is None or after >= least - 1:
        return None
    return Fault(
        certain=True,
        summary=f"the schedule ends with an error after {reading.times(after)}: {error[:120]}",
        expected="a schedule as long as the run",
        cause="its length counts epochs, but it is stepped after every batch"
        if _counts_epochs(reading)
        else "the schedule was made for a shorter run",
        remedy=Remedy(text=f"give it the length of the run: {reading.right_length}", code=_length_code(reading)),
        unit=_counts_epochs(reading),
    )


def _length_code(reading: Reading) -> str:
    part = reading.planned()
    name = part.length_name if part else "total_steps"
    return f"{name}={reading.right_length}"


def _at_its_end(reading: Reading) -> Fault | None:
    seen = reading.seen
    if not seen.begun or not seen.meant or max(seen.rates) > LOW * seen.meant:
        return None
    return Fault(
        certain=True,
        summary=f"the schedule is at its end before the training begins: the rate is {seen.rates[0]:.3g}, "
        f"{seen.rates[0] / seen.meant:.1%} of {seen.meant:.3g}, and never rises again",
        expected="a scheduler that has not been stepped yet",
        cause=f"scheduler.step() was called {seen.begun} times already (to draw it?)",
        remedy=Remedy(
            text="make optimizer and scheduler anew just before the training; draw the schedule with a throw-away pair"
        ),
    )


def _first_epoch_at_zero(reading: Reading) -> Fault | None:
    seen = reading.seen
    if reading.unit != "epoch" or seen.relative[0] > ZERO or (reading.run or 2) < 2:
        return None
    return Fault(
        certain=True,
        summary="the whole first epoch is trained at a rate of 0: the warm-up starts at 0 and is stepped once an epoch",
        expected="a rate above 0 in every epoch",
        cause="a warm-up from 0 is written for steps after every batch",
        remedy=Remedy(
            text="start the warm-up above 0, or step the scheduler after every batch with its lengths counted in batches",
            code="LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / warmup_epochs))",
        ),
    )


def _marks_of_another_unit(reading: Reading) -> Fault | None:
    seen, run = reading.seen, reading.run
    for part in seen.parts:
        if not part.marks or run is None or seen.epochs is None or seen.batches is None or seen.batches < 4:
            continue
        first, last = part.begin + part.marks[0], part.begin + part.marks[-1]
        if reading.unit == "update" and 1 < last <= seen.epochs and last < EARLY * run:
            return _per_batch(
                f"every drop of {part.kind} is over after {reading.times(last)}", "the steps at which it drops"
            )
        in_batches = len(part.marks) > 1 or first % seen.batches == 0
        if reading.unit == "epoch" and in_batches and 10 * seen.epochs <= first <= seen.epochs * seen.batches:
            return Fault(
                certain=False,
                summary=f"the rate never drops: {part.kind} waits for step {first:,}, and is stepped once an epoch, "
                f"{seen.epochs:,} times in all",
                expected="drops within the run",
                cause="its steps count batches, but it is stepped once an epoch",
                remedy=Remedy(
                    text=f"count epochs: {first / seen.batches:g} instead of {first:,}; or step it after every batch"
                ),
                unit=True,
            )
    return None


def _per_batch(what: str, which: str) -> Fault:
    return Fault(
        certain=True,
        summary=f"{what}: the schedule is written for epochs and stepped after every batch",
        expected="a schedule that lasts for the run",
        cause=f"scheduler.step() is called in the loop over batches, while {which} count epochs",
        remedy=Remedy(
            text='step it once an epoch, after the loop over batches (scheduler_interval = "epoch"), or count in batches',
        ),
        unit=True,
    )


def _dies(reading: Reading) -> Fault | None:
    seen, run = reading.seen, reading.run
    end = min(run if run is not None else reading.followed, reading.followed)
    rates = reading.until(end)
    if len(rates) < 5:
        return None
    peak = max(rate for _, rate in rates)
    alive = max((step for step, rate in rates if rate > LOW * peak), default=0)
    low = next((step for step, _ in rates if step > alive), None)
    if low is None or peak <= 0:
        return None
    if run is None:
        # Without the length of the run: a decay that has no end of its own cannot be meant to be over so soon.
        stated = seen.interval == "step" and reading.unit == "update" and all(p.kind in ENDLESS for p in seen.parts)
        if not stated or low > FEW_UPDATES:
            return None
    elif low >= (EARLY_FOR_EPOCHS if _decays_by_epochs(reading, rates[-1][1]) else EARLY) * run:
        return None
    what = f"the rate is below 1 % of its peak from {reading.times(low)} on"
    if reading.unit == "update" and run is not None and seen.epochs is not None:
        if find_fault(Reading(seen=seen, unit="epoch")) is None or _counts_epochs(reading):
            return _per_batch(what, "its numbers")
    elif run is None:
        return _per_batch(what, "its numbers")
    return Fault(
        certain=run is not None and low < AT_ONCE * run,
        summary=f"{what}: almost all of the run trains next to nothing",
        expected=f"a rate above 1 % of its peak for at least {EARLY:.0%} of the run",
        cause="it decays too fast for the length of the run",
        remedy=Remedy(
            text=f"stretch the decay over the run ({reading.right_length}), or decay less: a larger gamma, later drops"
        ),
    )


def _decays_by_epochs(reading: Reading, last: float) -> bool:
    seen = reading.seen
    endless = reading.unit == "update" and all(part.kind in ENDLESS for part in seen.parts)
    if not endless or seen.epochs is None or last > NOTHING_LEFT:
        return False
    by_epochs = Reading(seen=seen, unit="epoch")
    return by_epochs.at(seen.epochs - 1) < HALVED and find_fault(by_epochs) is None


def _counts_epochs(reading: Reading) -> bool:
    """Whether the length given is no longer than the epochs of the run, while the schedule is stepped after every batch."""
    part, epochs = reading.planned(), reading.seen.epochs
    return (
        reading.unit == "update"
        and part is not None
        and epochs is not None
        and part.begin + (part.length or 0) <= epochs
    )


def _climbs(reading: Reading) -> Fault | None:
    seen, run = reading.seen, reading.run
    if any(part.kind in RESTARTS for part in seen.parts):
        return None
    planned = reading.planned()
    if planned is None or planned.kind not in ("CosineAnnealingLR", "LambdaLR"):
        return None
    end = run
    if end is None and reading.unit == "update" and not seen.accumulates and seen.interval == "step":
        end = seen.batches  # one epoch at least
    if end is None:
        return None
    low, climbed, where = 2.0, 0.0, 0
    # A warm-up before the cosine rises too, and a lambda may restart on purpose: only what rises after its own end counts.
    begins = planned.begin + (planned.length or 0) // (1 if planned.kind == "LambdaLR" else 2)
    for step, rate in reading.until(min(end, reading.followed + 1)):
        if step < begins:
            continue
        if rate < low:
            low, climbed, where = rate, 0.0, step
        climbed = max(climbed, rate - low)
    if climbed < CLIMB:
        return None
    last = reading.at(end - 1) - low
    name = f"{planned.kind}'s {planned.length_name} is {planned.length:,}"
    if _counts_epochs(reading):
        return _per_batch(
            f"the rate falls and climbs again every {2 * (planned.length or 0):,} updates ({name})", "its numbers"
        )
    return Fault(
        certain=last > 0.5 * climbed,
        summary=f"the rate climbs again after {reading.times(where)}: {name}, the run is {end:,}"
        + ("" if run is not None else " in its first epoch alone"),
        expected="a rate that falls to the end of the run",
        cause="the schedule was made for a shorter run, or its length is counted in another unit than it is stepped in",
        remedy=Remedy(
            text=f"give it the length of the run: {reading.right_length}; for restarts use CosineAnnealingWarmRestarts",
            code=_length_code(reading),
        ),
    )


def _warm_up(reading: Reading) -> Fault | None:
    seen, run = reading.seen, reading.run
    if run is None or seen.relative[0] > 0.5:
        return None
    reached = next(step for step, rate in zip(seen.steps, seen.relative, strict=True) if rate > 0.95)
    if reached <= LONG_WARM_UP * run or reached > 0.95 * reading.followed or reading.followed < run:
        return None
    top = max(rate for _, rate in reading.until(run))
    over = reached >= run
    in_steps = reading.unit == "epoch" and over
    return Fault(
        certain=over and top < 0.5,
        summary=f"the warm-up is longer than the run: at its end the rate has reached {top:.0%} of its peak"
        if over
        else f"the warm-up takes {reached:,} of the run's {run:,} {reading.unit}s",
        expected="a warm-up of at most half of the run; a tenth is usual",
        cause="its length counts batches, but it is stepped once an epoch"
        if in_steps
        else "the warm-up was made for a longer run",
        remedy=Remedy(
            text="step the scheduler after every batch"
            if in_steps
            else f"warm up for at most {max(1, run // 10):,} {reading.unit}s"
        ),
    )


def _zero_tail(reading: Reading) -> Fault | None:
    run = reading.run
    if run is None or reading.followed < run or run < 5:
        return None
    rates = reading.until(run)
    alive = max((step for step, rate in rates if rate > ZERO), default=0)
    share = 1 - (alive + 1) / run
    if share <= ZERO_TAIL:
        return None
    return Fault(
        certain=share > 0.5,
        summary=f"the rate is 0 from {reading.times(alive + 1)} on: the last {share:.0%} of the run trains nothing",
        expected="a rate above 0 up to the end of the run",
        cause="the schedule was made for a shorter run, or its length is counted in another unit than it is stepped in",
        remedy=Remedy(text=f"give it the length of the run: {reading.right_length}", code=_length_code(reading)),
    )


def _too_slow(reading: Reading) -> Fault | None:
    """A length that counts batches while the schedule is stepped once an epoch: it hardly moves."""
    seen, part = reading.seen, reading.planned()
    if reading.unit != "epoch" or part is None or not part.length or seen.batches is None or seen.batches < 5:
        return None
    end = part.begin + part.length
    if seen.epochs is not None:
        counted = abs(end - seen.epochs * seen.batches) <= 0.1 * seen.epochs * seen.batches
    else:
        counted = seen.interval == "epoch" and end >= 1000 and end % seen.batches == 0
    if not counted:
        return None
    after = (
        ""
        if seen.epochs is None
        else f": after {seen.epochs:,} epochs the rate is still {reading.at(seen.epochs - 1):.0%}"
    )
    return Fault(
        certain=seen.epochs is not None,
        summary=f"{part.kind}'s {part.length_name} is {part.length:,}, a number of batches, but it is stepped once an epoch{after}",
        expected="a length in the unit in which the scheduler is stepped",
        cause="scheduler.step() is called once an epoch, while the length counts batches",
        remedy=Remedy(text='step it after every batch (scheduler_interval = "step"), or give the length in epochs'),
        unit=True,
    )


def _cut_off(reading: Reading) -> Fault | None:
    run = reading.run
    cycle = next((part for part in reading.seen.parts if part.kind == "OneCycleLR" and part.length), None)
    if run is None or cycle is None or cycle.length is None or run >= CYCLE_SHARE * cycle.length:
        return None
    return Fault(
        certain=False,
        summary=f"the run stops after {run:,} of OneCycleLR's {cycle.length:,} steps: the rate is still {reading.at(run - 1):.0%} "
        "of its peak",
        expected="a cycle as long as the run",
        cause="the schedule was made for a longer run, or its length is counted in another unit than it is stepped in",
        remedy=Remedy(text=f"give it the length of the run: {reading.right_length}", code=_length_code(reading)),
    )


def _ends_at_the_top(reading: Reading) -> Fault | None:
    """Warm restarts whose last cycle has hardly begun when the run ends."""
    run = reading.run
    if run is None or run < 5 or not any(part.kind == "CosineAnnealingWarmRestarts" for part in reading.seen.parts):
        return None
    rates = reading.until(run)
    last, lowest = rates[-1][1], min(rate for _, rate in rates)
    if last < TOP * max(rate for _, rate in rates) or lowest > 1 - TOP:
        return None
    return Fault(
        certain=False,
        summary=f"the run ends just after a restart: its last rate is {last:.0%} of the highest",
        expected="a run that ends with a cycle, at its lowest rate",
        cause="the lengths of the cycles (T_0, T_mult) do not add up to the run",
        remedy=Remedy(text=f"choose T_0 and T_mult so that the cycles end with the run, after {run:,} {reading.unit}s"),
    )
