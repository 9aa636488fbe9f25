"""overfit-batch on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.learning.overfit_batch import overfit_batch
from nncheck.losses.goal import Goal
from nncheck.losses.levels import Level
from nncheck.probes.overfit import OverfitBatch, Run
from nncheck.verdict import Curve, Status, Table

LN10 = math.log(10)
GOAL = Goal(
    kind="cross-entropy", exact=True, value=0.05 * LN10, accuracy=1.0, floor=0.0, why="every prediction certain and right",
    constant=LN10, lowest=-0.02 * LN10,
    levels=(Level(name="softmax before it", value=1.4612, why="C = 10", check="double-softmax"),),
    offset=0.0,
)  # fmt: skip


def _run(*losses: float, users: bool = True, **changes: object) -> Run:
    end = losses[-1]
    run = Run(
        optimizer="SGD(lr=0.1)" if users else "Adam(lr=0.001)", users=users, losses=losses, accuracy=1.0, share=end / LN10,
        fit=end <= GOAL.value, flat=False, dead=False, broken=False, update_ratio=1e-3, clip=None,
    )  # fmt: skip
    return dataclasses.replace(run, **changes)


def _falling(end: float, updates: int = 120) -> tuple[float, ...]:
    return tuple(2.3 + (end - 2.3) * i / (updates - 11) for i in range(updates - 10)) + (end,) * 10


def _batch(*runs: Run, **changes: object) -> OverfitBatch:
    batch = OverfitBatch(
        samples=16, predictions=16, parameters=10_000, covered=1.0, start=2.3, goal=GOAL, turned=False, cut=False, runs=runs,
        table=(("0", "3 (0.99)", "3"),), seen=None, loss_place=None,
    )  # fmt: skip
    return dataclasses.replace(batch, **changes)


CONTROL = _run(*_falling(0.1), users=False)


def _status(*runs: Run, **changes: object) -> Status:
    return overfit_batch(_batch(*runs, **changes)).status


def test_a_fit_by_the_users_optimizer_passes_and_shows_curve_and_table() -> None:
    verdict = overfit_batch(_batch(_run(*_falling(0.1))))
    assert verdict.status is Status.PASS
    assert "100% of the labels right" in verdict.measured
    curve, table = verdict.exhibits
    assert isinstance(curve, Curve)
    assert {guide.label for guide in curve.guides} >= {"goal", "best constant"}
    assert isinstance(table, Table)


@pytest.mark.parametrize(
    ("peak", "end", "status"),
    [
        (2.4, 1.0, Status.PASS),  # slower than the control, never rose: no fault
        (6.8, 1.0, Status.PASS),  # below three times its start
        (7.2, 1.0, Status.WARN),
        (24.0, 1.0, Status.FAIL),  # ten times
        (7.2, 2.4, Status.FAIL),  # no better than a constant at the end
    ],
)
def test_an_optimizer_that_soars(peak: float, end: float, status: Status) -> None:
    users = _run(2.3, peak, *(end,) * 118, accuracy=0.3)
    assert _status(users, CONTROL) is status


def test_a_broken_run_fails_unless_clipping_mends_it() -> None:
    broken = _run(2.3, math.nan, share=math.inf, broken=True, fit=False)
    assert _status(broken, CONTROL) is Status.FAIL
    clipped = _run(*_falling(0.9), clip=0.25)
    assert _status(broken, clipped, CONTROL) is Status.PASS


@pytest.mark.parametrize(
    ("end", "ratio", "status"),
    [(2.29, 1e-5, Status.WARN), (2.29, 1e-4, Status.PASS), (2.2, 1e-5, Status.PASS), (2.3, 0.0, Status.FAIL)],
)
def test_an_optimizer_that_creeps(end: float, ratio: float, status: Status) -> None:
    assert _status(_run(*_falling(end), update_ratio=ratio, accuracy=0.1), CONTROL) is status


@pytest.mark.parametrize(
    ("end", "flat", "accuracy", "status"),
    [
        (1.4612, True, 1.0, Status.FAIL),  # a level with a name, every label right or not
        (0.8, True, 1.0, Status.PASS),  # every label right
        (0.8, True, 0.8, Status.WARN),
        (0.8, False, 0.8, Status.PASS),  # still falling
        (1.3, True, 0.4, Status.FAIL),
        (2.29, False, 0.1, Status.PASS),
    ],
)
def test_where_no_run_gets_there(end: float, flat: bool, accuracy: float, status: Status) -> None:
    runs = [_run(*_falling(end), users=u, flat=flat, accuracy=accuracy) for u in (True, False)]
    assert _status(*runs) is status


def test_a_plan_that_cost_enough_is_not_held_against_the_network() -> None:
    stuck = [_run(*_falling(1.3), users=u, flat=True, accuracy=0.4) for u in (True, False)]
    assert _status(*stuck) is Status.FAIL
    assert _status(*stuck, cut=True) is Status.SKIP
    named = [_run(*_falling(1.4612), users=u, flat=True, accuracy=0.4) for u in (True, False)]
    assert _status(*named, cut=True) is Status.FAIL  # a level with a name tells enough


def test_a_small_model_is_not_accused() -> None:
    stuck = [_run(*_falling(1.3), users=u, flat=True, accuracy=0.4) for u in (True, False)]
    assert _status(*stuck, parameters=63) is Status.SKIP
    assert _status(*stuck, parameters=64) is Status.FAIL


def test_a_loss_that_nothing_changes_fails() -> None:
    dead = [_run(*(2.3,) * 31, users=u, dead=True, accuracy=0.1) for u in (True, False)]
    assert overfit_batch(_batch(*dead)).summary == "nothing that is trained changes the loss"
    # The same by the user's optimizer alone, at a rate that may be zero, and a loss that fell before it stood still.
    assert _status(dead[0], cut=True) is Status.SKIP
    fell = [_run(*_falling(0.3), *(0.3,) * 31, users=u, dead=True, accuracy=0.87) for u in (True, False)]
    assert overfit_batch(_batch(*fell)).status is Status.WARN
    assert _status(fell[0], cut=True) is Status.SKIP


def test_a_loss_below_its_floor_or_turned_fails() -> None:
    below = dataclasses.replace(GOAL, kind="mse")
    assert _status(_run(*_falling(-0.04)), goal=below) is Status.PASS
    assert _status(_run(*_falling(-0.05)), goal=below) is Status.FAIL
    unknown = dataclasses.replace(GOAL, kind="nll", exact=False, lowest=-math.inf)
    assert "log-probabilities" in overfit_batch(_batch(_run(*_falling(-30.0)), goal=unknown)).causes[0]
    assert "sign" in overfit_batch(_batch(_run(*_falling(-30.0)), turned=True)).summary


def test_an_unknown_floor_asks_only_for_a_drop() -> None:
    unknown = dataclasses.replace(GOAL, kind="", exact=False, value=0.7 * 2.3, lowest=-math.inf)
    assert _status(_run(*_falling(1.5), fit=True), goal=unknown) is Status.PASS
    assert _status(_run(*_falling(2.0)), _run(*_falling(2.0), users=False), goal=unknown) is Status.SKIP


def test_targets_far_from_zero_are_named() -> None:
    falling = [_run(*_falling(2.1), users=u, accuracy=None) for u in (True, False)]
    near, far = (dataclasses.replace(GOAL, kind="mse", offset=offset) for offset in (100.0, 101.0))
    assert _status(*falling, goal=near) is Status.PASS
    verdict = overfit_batch(_batch(*falling, goal=far))
    assert verdict.status is Status.WARN
    assert "far from 0" in verdict.summary


def test_contradicting_labels() -> None:
    some, half = (dataclasses.replace(GOAL, contradicted=share) for share in (0.4, 0.5))
    assert _status(_run(*_falling(0.1)), goal=some) is Status.PASS
    assert _status(_run(*_falling(0.1)), goal=half) is Status.WARN


@pytest.mark.parametrize(("peak", "near"), [(2.3 * 3.2, True), (2.3 * 2.8, True), (2.3 * 6, False), (2.3 * 1.5, False)])
def test_a_rise_near_its_limit_says_so(peak: float, near: bool) -> None:
    users = _run(2.3, peak, *_falling(1.0), share=0.4, fit=False)
    verdict = overfit_batch(_batch(users, CONTROL))
    assert bool(verdict.near) is near, verdict.near
    assert set(verdict.spread) <= set(verdict.numbers)


def test_a_fit_is_not_near() -> None:
    assert overfit_batch(_batch(_run(*_falling(0.1)))).near == ""
