"""scheduler-step over evidence made by hand."""

import dataclasses
import math

import pytest

from nncheck.checks.loop.scheduler_step import MANY_STEPS, OFTEN, scheduler_step
from nncheck.probes.lr_schedule import LrSchedule, Part
from nncheck.probes.schedules_seen import SchedulesSeen, Stepped
from nncheck.verdict import Place, Status

LINE, OTHER = Place(name="step", file="train.py", line=9), Place(name="step", file="train.py", line=12)
ONE = Stepped(kind="StepLR", made_at=LINE, times=3, within=0, places=(LINE,), early=(), again=0, by=(), moved=False)
HEALTHY = SchedulesSeen(
    schedules=(ONE,), steps=24, over=3, batches=24, has_loader=True, own_loop=True, waiting=(), behind=()
)
NEVER = {"times": 0, "places": ()}


@pytest.mark.parametrize(
    ("one", "changes", "status"),
    [
        ({}, {}, Status.PASS),
        ({}, {"schedules": ()}, Status.SKIP),
        (NEVER, {}, Status.FAIL),
        (NEVER, {"behind": (OTHER,)}, Status.FAIL),
        (NEVER, {"waiting": (OTHER,)}, Status.PASS),
        (NEVER, {"own_loop": False}, Status.PASS),
        (NEVER, {"over": 0}, Status.PASS),
        (NEVER, {"has_loader": False, "over": 0, "steps": MANY_STEPS}, Status.FAIL),
        (NEVER, {"has_loader": False, "over": 0, "steps": MANY_STEPS - 1}, Status.PASS),
        (NEVER | {"moved": True}, {}, Status.PASS),
        ({"early": (LINE,)}, {}, Status.WARN),
        ({"early": (LINE,), "kind": "ReduceLROnPlateau"}, {}, Status.PASS),
        ({"again": OFTEN, "by": (LINE, OTHER)}, {}, Status.FAIL),
        ({"again": OFTEN - 1, "by": (LINE, OTHER)}, {}, Status.PASS),
    ],
)
def test_both_sides(one: dict[str, object], changes: dict[str, object], status: Status) -> None:
    schedule = dataclasses.replace(ONE, **one)  # type: ignore[arg-type]
    seen = dataclasses.replace(HEALTHY, **({"schedules": (schedule,)} | changes))  # type: ignore[arg-type]
    assert scheduler_step(seen, None).status is status


@pytest.mark.parametrize(
    ("within", "length", "status"),
    [
        (0, 10, Status.PASS),
        (0, 1000, Status.FAIL),  # 10 epochs of 100 batches
        (24, 1000, Status.PASS),
        (24, 10, Status.FAIL),
    ],
)
def test_a_schedule_is_read_in_the_unit_it_is_stepped_in(within: int, length: int, status: Status) -> None:
    steps = tuple(range(2001))
    rates = tuple(0.5 * (1 + math.cos(math.pi * step / length)) for step in steps)
    numbers = LrSchedule(
        kind="CosineAnnealingLR", parts=(Part(kind="CosineAnnealingLR", begin=0, length=length, length_name="T_max"),),
        steps=steps, rates=rates, relative=rates, stops=None, interval=None, epochs=10, batches=100, begun=0, trained=False,
        stateful=True, elsewhere=False, accumulates=False, meant=1.0,
    )  # fmt: skip
    one = dataclasses.replace(ONE, kind="CosineAnnealingLR", within=within, times=within or 3)
    verdict = scheduler_step(dataclasses.replace(HEALTHY, schedules=(one,)), numbers)
    assert verdict.status is status, verdict.summary
