"""The learning-rate schedule is not stepped, or at the wrong moments.

What it does
    Follows the script's own loop for a few epochs and counts when it steps each schedule: never, before the first step of the
    optimizer, from two places without a step of the optimizer in between, after every batch or once an epoch. Compares how often
    with the schedule's own numbers and the length of the run.
Why it matters
    A schedule that is made and never stepped leaves the rate where it was. One whose numbers count epochs and that is stepped after
    every batch is over within the first epoch; the other way round it hardly moves. No message tells of either.
How to fix
    Call `scheduler.step()` once, after `optimizer.step()`: inside the loop over batches if its numbers count batches, behind that
    loop if they count epochs. Give it its length in that unit.
Known limits
    Looks at three epochs, cut short. A schedule whose step stands in a branch that these epochs do not reach is given the benefit
    of the doubt, as is one that a library steps. The numbers are compared as `lr-schedule` does it, which judges the rest of them.
Source
    PyTorch documentation, `torch.optim`: "How to adjust learning rate"; its warning on `lr_scheduler.step()` before
    `optimizer.step()`.
"""

import dataclasses

from nncheck.checks.learning._schedule_faults import find_unit_fault
from nncheck.checks.learning._schedule_reading import Reading
from nncheck.probes.lr_schedule import LrSchedule
from nncheck.probes.schedules_seen import SchedulesSeen, Stepped
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# A loop without a loader shows no epochs: after so many steps a schedule by steps would have been stepped.
MANY_STEPS = 32
# Seen twice, it is no slip at an edge of the run.
OFTEN = 2


@check(stage=Stage.LOOP, after=("forward-pass",))
def scheduler_step(seen: SchedulesSeen, numbers: LrSchedule | None) -> Verdict:
    """Judge each schedule; the first fault is told."""
    if not seen.schedules:
        return skipped("the optimizer has no schedule")
    for one in seen.schedules:
        found = _never(seen, one) or _early(seen, one) or _twice(seen, one) or _unit(seen, one, numbers)
        if found is not None:
            return found
    return passed(_measured(seen, seen.schedules[0]))


def _never(seen: SchedulesSeen, one: Stepped) -> Verdict | None:
    long_enough = seen.over >= 1 if seen.has_loader else seen.steps >= MANY_STEPS
    if one.times or one.early or one.moved or not long_enough or not seen.own_loop or seen.waiting:
        return None
    behind = bool(seen.behind)
    return failed(
        _measured(seen, one),
        expected="a step of the schedule after every epoch, or after every batch",
        summary=f"{one.kind} is never stepped in the loop: the learning rate stays where it is",
        places=_known(*seen.behind[:1], one.made_at),
        causes=(
            "scheduler.step() stands behind the loop over epochs"
            if behind
            else "scheduler.step() is missing from the loop",
        ),
        remedies=(_STEP,),
    )


def _early(seen: SchedulesSeen, one: Stepped) -> Verdict | None:
    if not one.early or one.kind == "ReduceLROnPlateau":
        return None
    return warned(
        f"{one.kind} was stepped {len(one.early)} time{'s' * (len(one.early) > 1)} before the optimizer's first step; "
        + _measured(seen, one),
        expected="optimizer.step() before scheduler.step()",
        summary=f"{one.kind} is stepped before the optimizer: its first rate is never used",
        places=_known(one.early[0]),
        causes=("scheduler.step() comes before optimizer.step()",),
        remedies=(Remedy(text="move scheduler.step() behind optimizer.step()"),),
    )


def _twice(seen: SchedulesSeen, one: Stepped) -> Verdict | None:
    if one.again < OFTEN:
        return None
    return failed(
        f"{one.again} times one line stepped {one.kind} after another had, without a step of the optimizer in between; "
        + _measured(seen, one),
        expected="one step of the schedule at a time",
        summary=f"{one.kind} is stepped from two places: it runs ahead of the training",
        places=_known(*one.by),
        causes=("scheduler.step() is called both in the loop over batches and after it",),
        remedies=(Remedy(text="keep the one call that fits the schedule's numbers"),),
    )


def _unit(seen: SchedulesSeen, one: Stepped, numbers: LrSchedule | None) -> Verdict | None:
    """The schedule's numbers against how often it is stepped; only where both are known of the same schedule."""
    if numbers is None or numbers.kind != one.kind or len(seen.schedules) != 1 or numbers.batches is None:
        return None
    unit = _unit_of(seen, one)
    if not unit:
        return None
    often = one.within / seen.batches
    batches = numbers.batches if unit == "epoch" else max(1, round(numbers.batches * often))
    told = dataclasses.replace(
        numbers, interval="step" if unit == "update" else "epoch", batches=batches, accumulates=False
    )
    fault = find_unit_fault(Reading(seen=told, unit=unit))
    if fault is None:
        return None
    say = failed if fault.certain else warned
    return say(
        _measured(seen, one),
        expected=fault.expected,
        summary=fault.summary,
        places=_known(*one.places, one.made_at),
        causes=(fault.cause,),
        remedies=(fault.remedy,),
    )


def _unit_of(seen: SchedulesSeen, one: Stepped) -> str:
    """`update` if it is stepped as often as the optimizer or more, `epoch` if once an epoch; "" if neither."""
    if not seen.has_loader or not one.times or not seen.over:
        return ""
    if 2 * one.within >= seen.steps > 2 * (seen.over + 1):
        return "update"
    return "epoch" if one.times <= seen.over + 1 and seen.batches >= 2 * seen.over else ""


_STEP = Remedy(
    text="call scheduler.step() in the loop: after every epoch if its numbers count epochs, else after every optimizer.step()",
    code="scheduler.step()",
)


def _known(*places: Place | None) -> tuple[Place, ...]:
    return tuple(place for place in places if place is not None)


def _measured(seen: SchedulesSeen, one: Stepped) -> str:
    over = f" and {seen.over} epochs (cut short)" if seen.has_loader else ""
    return f"{one.kind} was stepped {one.times} times in {seen.steps} steps of the optimizer{over}"
