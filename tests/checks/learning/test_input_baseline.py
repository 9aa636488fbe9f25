"""input-baseline on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.learning.input_baseline import input_baseline
from nncheck.probes.input_baseline import InputBaseline, Lead, lead
from nncheck.verdict import Curve, Status

RUNS = InputBaseline(
    optimizer="Adam(lr=0.001)", updates=112, samples=1792, real=(2.3,) * 112, constant=(2.3,) * 112, permuted=(2.3,) * 112,
    over_constant=Lead(gap=-0.01, t=-2.0, pairs=896), over_permuted=Lead(gap=0.0, t=0.1, pairs=896), helps=False, ignored=0.5,
    learned_in=90, how="their mean",
)  # fmt: skip


def _status(**changes: object) -> Status:
    return input_baseline(dataclasses.replace(RUNS, **changes)).status


def test_help_passes_with_a_curve_of_the_three() -> None:
    verdict = input_baseline(dataclasses.replace(RUNS, helps=True, ignored=None))
    assert verdict.status is Status.PASS
    (curve,) = verdict.exhibits
    assert isinstance(curve, Curve)
    assert len(curve.lines) == 3


def test_no_sign_is_a_warning_at_most() -> None:
    verdict = input_baseline(RUNS)
    assert verdict.status is Status.WARN
    assert "may not belong" in verdict.summary


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"over_constant": Lead(gap=0.0, t=-0.1, pairs=896)}, Status.WARN),
        ({"over_constant": Lead(gap=0.0, t=0.0, pairs=896)}, Status.SKIP),
        ({"over_permuted": Lead(gap=0.0, t=2.0, pairs=896)}, Status.SKIP),
        ({"samples": 999}, Status.SKIP),
        ({"learned_in": None}, Status.SKIP),
        ({"learned_in": 113}, Status.SKIP),
        ({"updates": 63, "learned_in": 20}, Status.SKIP),
        ({"updates": 64, "learned_in": 20}, Status.WARN),
        ({"updates": 95, "learned_in": 20, "over_constant": Lead(gap=0.0, t=-0.9, pairs=700)}, Status.SKIP),
        ({"ignored": 1e-6}, Status.WARN),
        ({"ignored": 9e-7}, Status.FAIL),
        ({"ignored": math.nan}, Status.WARN),
        ({"ignored": 0.0, "samples": 100}, Status.FAIL),
    ],
)
def test_limits(changes: dict[str, object], status: Status) -> None:
    assert _status(**changes) is status


def test_lead_is_the_paired_t_of_the_second_half() -> None:
    real = [(5.0, 5.0), (1.0, 2.0), (1.0, 2.0), (1.0, 3.0)]
    other = [(0.0, 0.0), (9.0, 9.0), (1.5, 2.4), (1.6, 3.5)]
    found = lead(other, real)
    differences = [0.5, 0.4, 0.6, 0.5]
    mean = sum(differences) / 4
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3 / 4)
    assert (found.pairs, found.gap, found.t) == (4, pytest.approx(mean), pytest.approx(mean / error))


def test_a_lead_without_finite_pairs_says_nothing() -> None:
    assert lead([(math.nan,), (1.0,)], [(1.0,), (math.inf,)]).t == 0.0
    assert lead([], []).pairs == 0


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"over_constant": Lead(gap=-0.01, t=-0.5, pairs=896)}, True),
        ({"over_constant": Lead(gap=-0.01, t=-1.9, pairs=896)}, True),
        (
            {"over_constant": Lead(gap=-0.01, t=-2.1, pairs=896), "over_permuted": Lead(gap=0.0, t=-0.1, pairs=896)},
            False,
        ),
        ({"over_constant": Lead(gap=-0.01, t=-2.1, pairs=896), "over_permuted": Lead(gap=0.0, t=0.1, pairs=896)}, True),
        ({"ignored": 0.0}, False),  # exactly nothing
        ({"over_constant": Lead(gap=0.0, t=0.0, pairs=896)}, False),  # undecided
        (
            {
                "helps": True,
                "over_constant": Lead(gap=0.1, t=5.5, pairs=9),
                "over_permuted": Lead(gap=1.0, t=20.0, pairs=9),
            },
            True,
        ),
        (
            {
                "helps": True,
                "over_constant": Lead(gap=0.1, t=6.1, pairs=9),
                "over_permuted": Lead(gap=1.0, t=20.0, pairs=9),
            },
            False,
        ),
    ],
)
def test_near_its_limits_it_says_so(changes: dict[str, object], near: bool) -> None:
    verdict = input_baseline(dataclasses.replace(RUNS, **changes))
    assert bool(verdict.near) is near
    assert verdict.spread["t_constant"] == verdict.spread["t_permuted"] == 1.0
    assert set(verdict.spread) <= set(verdict.numbers)


def test_a_look_that_decides_nothing_is_followed_by_another() -> None:
    runs = dataclasses.replace(RUNS, helps=True, over_constant=Lead(gap=0.1, t=4.1, pairs=9), last=False)
    assert input_baseline(runs).near == ""
