"""prediction-dynamics on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.prediction_dynamics import prediction_dynamics
from nncheck.lab.looks import Look, Wanted
from nncheck.probes.controls import Control, Controls
from nncheck.verdict import Curve, Heatmap, Status, Verdict
from tests.rehearsals import falling, level, levels, look, overfit, rehearsal

MOMENTS = (0, 2, 5, 10, 20, 30, 40, 50, 60)
OUTPUTS = Wanted(kind="outputs", samples=64, spread=None, labels=0)


def _looks(*spreads: float, scale: float = 0.3, **changes: Any) -> tuple[Look, ...]:
    return tuple(look(at, spread, scale=scale, **changes) for at, spread in zip(MOMENTS, spreads, strict=False))


def _adam(spread: float = 0.3, after: float = 1.0) -> Control:
    return Control(
        kind="adam", optimizer="Adam(lr=0.001)", losses=falling(2.3, after), before=level(2.3), after=level(after),
        first=look(0), last=look(60, spread),
    )  # fmt: skip


def _judge(looks: tuple[Look, ...], *runs: Control, doubt: str = "collapsed", **changes: Any) -> Verdict:
    return prediction_dynamics(rehearsal(looks=looks, **changes), Controls(doubt=doubt, runs=runs), overfit())


def test_a_sound_course_passes_with_its_pictures() -> None:
    verdict = _judge(_looks(*(0.1 + 0.02 * i for i in range(9))), doubt="")
    assert verdict.status is Status.PASS
    curve, heat = verdict.exhibits
    assert isinstance(curve, Curve)
    assert isinstance(heat, Heatmap)
    assert len(heat.values) == 9


def test_one_answer_for_all_is_told_only_where_adam_keeps_them_apart() -> None:
    looks = _looks(0.3, 0.2, 0.1, 0.05, *[0.01] * 5)
    flat: dict[str, Any] = {"seen": levels(2.3, 2.3)}
    verdict = _judge(looks, _adam(), **flat)
    assert verdict.status is Status.WARN
    assert "learning-rate" in verdict.follows
    assert _judge(looks, **flat).status is Status.PASS
    assert _judge(looks, _adam(spread=0.05), **flat).status is Status.PASS
    assert _judge(looks, _adam(after=2.299), **flat).status is Status.PASS
    assert _judge(looks, _adam(), seen=levels(2.3, 1.0)).status is Status.PASS  # no worse than Adam
    assert _judge(_looks(0.3, *[0.02] * 8), _adam(), **flat).status is Status.PASS


@pytest.mark.parametrize(
    ("spreads", "scale", "status"),
    [
        ((0.2, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02), 0.2, Status.FAIL),
        ((0.2, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.05), 0.2, Status.PASS),  # no longer shrinking
        ((0.2, 0.2, 0.1, 0.09, 0.08, 0.07, 0.06, 0.055, 0.05), 0.2, Status.PASS),  # a quarter of it is left
        ((0.2, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02), 0.05, Status.PASS),  # still apart beside their size
        ((0.01, 0.01, 0.009, 0.008, 0.007, 0.006, 0.004, 0.003, 0.001), 0.2, Status.PASS),  # never apart
    ],
)
def test_outputs_that_are_compared_with_each_other_and_collapse(
    spreads: tuple[float, ...], scale: float, status: Status
) -> None:
    looks = _looks(*spreads, scale=scale)
    assert _judge(looks, doubt="", wanted=OUTPUTS).status is status


def test_outputs_that_shrink_while_the_loss_rises_are_another_matter() -> None:
    looks = _looks(0.2, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, scale=0.2)
    assert _judge(looks, doubt="", wanted=OUTPUTS, losses=falling(1.0, 2.0)).status is Status.PASS


@pytest.mark.parametrize(("change", "status"), [(0.5, Status.WARN), (0.3, Status.PASS)])
def test_predictions_that_keep_swinging(change: float, status: Status) -> None:
    looks = tuple(dataclasses.replace(one, change=change if one.update else None) for one in _looks(*[0.3] * 9))
    flat: dict[str, Any] = {"seen": levels(2.3, 2.3)}
    assert _judge(looks, _adam(), doubt="no certain fall", **flat).status is status
    assert _judge(looks, doubt="no certain fall", **flat).status is Status.PASS
    assert _judge(looks, _adam(), doubt="").status is Status.PASS
    settling = tuple(
        dataclasses.replace(one, change=0.9 if one.update < 40 else change) if one.update else one for one in looks
    )
    assert _judge(settling, _adam(), doubt="no certain fall", **flat).status is Status.PASS


def test_what_cannot_be_looked_at_is_skipped() -> None:
    assert _judge(()).status is Status.SKIP
    assert _judge(_looks(0.3, 0.3, 0.3)).status is Status.SKIP
    assert _judge(_looks(*[math.nan] * 9)).status is Status.SKIP
    assert _judge(_looks(*[0.3] * 9), wanted=None).status is Status.SKIP


@pytest.mark.parametrize(("last", "near"), [(0.042, True), (0.038, True), (0.06, False), (0.02, False)])
def test_outputs_that_collapse_near_the_limit_say_so(last: float, near: bool) -> None:
    looks = _looks(0.2, 0.2, 0.15, 0.12, 0.1, 0.09, 0.08, 0.07, last, scale=0.2)
    verdict = _judge(looks, doubt="", wanted=OUTPUTS)
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["spread_last"] == pytest.approx(0.06 * last)


@pytest.mark.parametrize(("change", "near"), [(0.36, True), (0.3, True), (0.7, False), (0.1, False)])
def test_swings_near_the_limit_say_so(change: float, near: bool) -> None:
    looks = tuple(dataclasses.replace(one, change=change if one.update else None) for one in _looks(*[0.3] * 9))
    verdict = _judge(looks, _adam(), doubt="no certain fall", seen=levels(2.3, 2.3))
    assert bool(verdict.near) is near, verdict.near


@pytest.mark.parametrize(("kept", "near"), [(0.3, False), (0.11, True), (0.09, True), (0.05, False)])
def test_a_collapse_that_adam_barely_avoids_says_so(kept: float, near: bool) -> None:
    looks = _looks(0.3, 0.2, 0.1, 0.05, *[0.01] * 5)
    verdict = _judge(looks, _adam(spread=kept), seen=levels(2.3, 2.3))
    assert bool(verdict.near) is near, verdict.near
