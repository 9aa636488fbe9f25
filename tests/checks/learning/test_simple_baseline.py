"""simple-baseline on evidence built by hand: both sides of each limit, and what is told without a straight line."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nncheck.checks.learning.simple_baseline import simple_baseline
from nncheck.lab.held import Level
from nncheck.probes.input_baseline import InputBaseline, Lead
from nncheck.probes.loss_targets import LossTargets
from nncheck.probes.rehearsal import Levels, Rehearsal
from nncheck.probes.training_data import TrainingData
from nncheck.survey.samples import Samples
from nncheck.survey.sketch import LinearFit
from nncheck.survey.survey import Survey
from nncheck.survey.walk import Coverage
from nncheck.verdict import Status, Table, Verdict

LINEAR = LinearFit(
    kind="classes", held=400, outputs=10, width=64, right=0.95, majority=0.1, loss=0.2, constant=2.3, error=0.05
)  # fmt: skip
LEVEL = Level(losses=(2.3,) * 64, apart=True, wrong=0.9)
RUN = Rehearsal(
    optimizer="Adam(lr=0.001)", distinct=28, size=64, losses=(2.3,) * 60, gradients=(1.0,) * 60, moves=(), descents=(),
    seen=Levels(samples=64, before=LEVEL, after=LEVEL, eval_before=LEVEL, eval_after=LEVEL), fresh=None, validation=None,
    no_validation="", wanted=None, looks=(), diverged=False, noise=None, checkpoint=None,
)  # fmt: skip
FRESH = InputBaseline(
    optimizer="Adam(lr=0.001)", updates=112, samples=1792, real=(2.3,) * 112, constant=(2.3,) * 112, permuted=(2.3,) * 112,
    over_constant=Lead(gap=-0.01, t=-0.5, pairs=896), over_permuted=Lead(gap=0.0, t=0.1, pairs=896), helps=False, ignored=0.5,
    learned_in=90, how="their mean",
)  # fmt: skip


def _ask(linear: LinearFit | None = LINEAR, fresh: InputBaseline | None = FRESH) -> Verdict:
    coverage = Coverage(batches=28, samples=1792, complete=True, stopped="", failure="", first="")
    survey = Survey(
        coverage=coverage, inputs=(), targets=(), others=(), samples=Samples().result(), linear=linear,
    )  # fmt: skip
    losses = SimpleNamespace(calls=())  # the only part that is read
    return simple_baseline(TrainingData(survey=survey), cast(LossTargets, losses), RUN, fresh)


def test_a_line_that_does_well_where_the_network_does_not_is_a_warning() -> None:
    verdict = _ask()
    assert verdict.status is Status.WARN
    assert "95% of the labels right" in verdict.summary
    assert verdict.remedies


@pytest.mark.parametrize(
    ("linear", "fresh", "status"),
    [
        ({"loss": 1.14}, {}, Status.WARN),
        ({"loss": 1.16}, {}, Status.PASS),
        ({"error": 0.34}, {}, Status.WARN),
        ({"error": 0.36}, {}, Status.PASS),
        ({"loss": float("nan")}, {}, Status.PASS),
        ({}, {"helps": True}, Status.PASS),
        ({}, {"learned_in": None}, Status.PASS),
        ({}, {"learned_in": 113}, Status.PASS),
        ({}, {"samples": 999}, Status.PASS),
        ({}, {"updates": 63, "learned_in": 20}, Status.PASS),
        ({}, {"over_constant": Lead(gap=0.01, t=1.9, pairs=896)}, Status.WARN),
        ({}, {"over_constant": Lead(gap=0.01, t=2.1, pairs=896)}, Status.PASS),
        ({}, {"over_constant": Lead(gap=0.3, t=1.9, pairs=896)}, Status.PASS),
        ({}, {"over_constant": Lead(gap=0.0, t=0.0, pairs=1)}, Status.PASS),
    ],
)
def test_limits(linear: dict[str, Any], fresh: dict[str, Any], status: Status) -> None:
    assert _ask(dataclasses.replace(LINEAR, **linear), dataclasses.replace(FRESH, **fresh)).status is status


def test_without_the_three_runs_the_levels_are_told_all_the_same() -> None:
    verdict = _ask(fresh=None)
    assert verdict.status is Status.PASS
    (table,) = verdict.exhibits
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ["10.0%", "95.0%", "10.0%"]
    assert verdict.numbers["linear_right"] == 0.95


def test_numbers_have_a_mean_and_a_ridge() -> None:
    verdict = _ask(dataclasses.replace(LINEAR, kind="numbers", right=None, majority=None))
    assert verdict.status is Status.WARN
    assert "91% of the variance" in verdict.summary
    assert "ridge" in verdict.measured


def test_nothing_known_is_a_skip() -> None:
    assert _ask(linear=None).status is Status.SKIP


@pytest.mark.parametrize(
    ("linear", "t", "near"),
    [
        ({}, 1.0, True),
        ({}, -0.5, False),
        ({}, 2.5, True),  # passes, barely
        ({}, 4.5, False),
        ({"loss": 1.10, "error": 0.03}, -0.5, True),
        ({"loss": 1.20, "error": 0.03}, -0.5, True),
        ({"loss": 1.30, "error": 0.03}, -0.5, False),
        ({"loss": 1.20, "error": 0.03}, 4.5, False),  # one of two conditions is far off
        ({"error": 0.34}, -0.5, True),
    ],
)
def test_near_its_limits_it_says_so(linear: dict[str, Any], t: float, near: bool) -> None:
    fresh = dataclasses.replace(FRESH, over_constant=Lead(gap=0.01 * t, t=t, pairs=896))
    verdict = _ask(dataclasses.replace(LINEAR, **linear), fresh)
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["linear_right"] == pytest.approx((0.95 * 0.05 / 400) ** 0.5, rel=0.1)


def test_runs_too_short_to_tell_are_not_near() -> None:
    fresh = dataclasses.replace(FRESH, over_constant=Lead(gap=0.01, t=2.1, pairs=896), samples=999)
    assert _ask(fresh=fresh).near == ""
