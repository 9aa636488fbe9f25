"""What is said of figures near their thresholds, on edges built by hand."""

import math

import pytest

from nncheck.checks._near import Edge, mean_error, near, near_either, of_t, share_error, uncertain
from nncheck.verdict import Status, failed, passed, skipped


def _edge(
    value: float, *, limit: float = 2.76, error: float = 0.04, above: bool = True, name: str = "the loss"
) -> Edge:
    return Edge(name=name, value=value, limit=limit, error=error, above=above)


def test_the_sentence_has_value_distance_limit_and_error() -> None:
    assert near(_edge(2.71)) == (
        "the loss of 2.71 lies 0.05 below the limit of 2.76, with a standard error of 0.04: another seed may tell otherwise"
    )
    assert "0.05 above" in near(_edge(2.81))
    assert "just at the limit" in near(_edge(2.76))


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (2.69, 0.04, True),
        (2.67, 0.04, False),  # 2.25 standard errors
        (2.83, 0.04, True),
        (2.85, 0.04, False),
        (2.76, 0.0, False),  # nothing random in it
        (2.76, math.nan, False),
        (2.76, math.inf, False),
        (math.nan, 0.04, False),
        (math.inf, 0.04, False),
    ],
)
def test_near_is_within_two_standard_errors(value: float, error: float, said: bool) -> None:
    assert bool(near(_edge(value, error=error))) is said


def test_a_finding_turns_with_one_condition_a_pass_with_all_that_are_missing() -> None:
    sure, barely, missing, far = _edge(9.0), _edge(2.80), _edge(2.70, name="its size"), _edge(1.0)
    assert near(sure) == ""
    assert "2.8 lies" in near(sure, barely)
    assert near(sure, missing).startswith("its size of 2.7")
    assert near(missing, far) == ""
    assert near(far) == ""
    assert near() == ""


def test_of_several_the_nearest_is_named() -> None:
    assert near(_edge(2.70), _edge(2.75, name="the other")).startswith("the other")


def test_a_condition_may_ask_for_less() -> None:
    below = _edge(2.70, above=False)
    assert below.holds
    assert "0.06 below" in near(below)
    assert near(_edge(2.80, above=False), _edge(2.0, above=False))


def test_only_numbers_that_are_there_have_a_spread_and_a_skip_is_not_near() -> None:
    found = failed("2.8", expected="less", numbers={"loss": 2.8, "steps": 60.0})
    shown = uncertain(found, {"loss": 0.04, "steps": 0.0, "fall": 1.0}, "near")
    assert (shown.spread, shown.near, shown.status) == ({"loss": 0.04}, "near", Status.FAIL)
    assert uncertain(passed("2.7"), {}, "near").near == "near"
    assert uncertain(skipped("no loss"), {}, "near").near == ""
    assert uncertain(shown, {"steps": 2.0}).spread == {"loss": 0.04, "steps": 2.0}


def test_errors_of_shares_means_and_differences() -> None:
    assert share_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)
    assert 0 < share_error(0.0, 20) < 0.05
    assert math.isnan(share_error(0.5, 0))
    assert math.isnan(share_error(1.5, 10))
    assert mean_error((1.0, 2.0, 3.0)) == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(mean_error((1.0,)))
    assert of_t(0.3, -6.0) == pytest.approx(0.05)
    assert math.isnan(of_t(0.3, 0.0))
    assert math.isnan(of_t(0.3, math.inf))


def test_where_any_condition_is_enough_all_that_hold_have_to_be_near() -> None:
    sure, barely, missing = _edge(9.0), _edge(2.80), _edge(2.70)
    assert near_either(sure, barely) == ""
    assert near_either(barely, _edge(1.0))
    assert near_either(missing, _edge(1.0))
    assert near_either(_edge(1.0)) == near_either() == ""
