"""class-balance on evidence made by hand."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.data.class_balance import class_balance, rank_correlation
from nncheck.verdict import Status
from tests.checks.data.evidence import call, data, labels, losses, sampling, spread

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS
UNEVEN = {0.0: 800, 1.0: 150, 2.0: 50}
BINARY = {"kind": "bce-with-logits", "classes": 0, "ignore_index": None, "integer": False, "dtype": "float32"}


@pytest.mark.parametrize(
    ("weights", "counts", "status"),
    [
        ((), UNEVEN, PASS),
        ((1.0, 5.0, 16.0), UNEVEN, PASS),
        ((16.0, 5.0, 1.0), UNEVEN, FAIL),
        # In the order of another list: the largest class weighs most.
        ((16.0, 1.0, 5.0), UNEVEN, FAIL),
        ((1.0, 1.1, 1.0), UNEVEN, PASS),
        ((1.1, 1.0, 1.0), UNEVEN, PASS),
        # Even classes may weigh what their errors cost.
        ((5.0, 1.0, 1.0), {0.0: 110, 1.0: 100, 2.0: 90}, PASS),
        # A weight of zero leaves a class out on purpose.
        ((0.0, 1.0, 3.0), UNEVEN, PASS),
        ((1.0,), UNEVEN, PASS),
    ],
)
def test_weights(weights: tuple[float, ...], counts: dict[float, int], status: Status) -> None:
    verdict = class_balance(losses(call(weights=weights)), data(labels(counts)), sampling())
    assert verdict.status is status, verdict
    assert verdict.measured


@pytest.mark.parametrize(
    ("weight", "rate", "status"),
    [
        ((), 0.1, PASS),
        ((9.0,), 0.1, PASS),
        ((1.0,), 0.1, PASS),
        ((0.111,), 0.1, FAIL),
        # The share of negatives, where their ratio to positives was meant.
        ((0.9,), 0.1, WARN),
        ((0.5,), 0.4, PASS),
        ((9.0,), 0.9, FAIL),
        ((30.0,), 0.1, PASS),
        ((2.0,), 0.0, PASS),
        ((0.5,), 1.0, PASS),
    ],
)
def test_pos_weight(weight: tuple[float, ...], rate: float, status: Status) -> None:
    seen = labels({0.0: 900, 1.0: 100}, kind="float", low=0.0, high=1.0, mean=rate)
    one = call(**BINARY, pos_weight=weight, output_mean=math.log(max(rate, 0.01) / max(1 - rate, 0.01)))
    assert class_balance(losses(one), data(seen), sampling()).status is status


def test_pos_weight_by_column() -> None:
    seen = labels({0.0: 900, 1.0: 100}, kind="float", low=0.0, high=1.0, mean=0.2, columns=spread(*[(0.1, 0.3)] * 3))
    assert class_balance(losses(call(**BINARY, pos_weight=(0.1, 0.1, 9.0))), data(seen), sampling()).status is FAIL
    assert class_balance(losses(call(**BINARY, pos_weight=(0.1, 9.0, 9.0))), data(seen), sampling()).status is PASS


@pytest.mark.parametrize(("weights", "status"), [(None, PASS), (1000, PASS), (2000, PASS), (3, FAIL), (999, FAIL)])
def test_one_weight_for_each_class(weights: int | None, status: Status) -> None:
    seen = sampling(sampler="WeightedRandomSampler", weights=weights, length=1000)
    assert class_balance(losses(call()), data(labels(UNEVEN)), seen).status is status


@pytest.mark.parametrize(
    ("drawn", "status"), [({0.0: 333, 1.0: 333}, PASS), ({0.0: 980, 1.0: 20}, FAIL), (UNEVEN, PASS)]
)
def test_a_sampler_that_follows_the_frequency(drawn: dict[float, int], status: Status) -> None:
    held = ((0, 800), (1, 150), (2, 50))
    seen = sampling(sampler="WeightedRandomSampler", weights=1000, length=1000, labels=held)
    assert class_balance(losses(call()), data(labels(drawn)), seen).status is status


@pytest.mark.parametrize(
    ("counts", "changed", "status"),
    [
        ({0.0: 900, 1.0: 100}, {}, PASS),
        ({0.0: 1980, 1.0: 20}, {}, PASS),
        ({0.0: 1990, 1.0: 10}, {}, WARN),
        ({0.0: 1996, 1.0: 4}, {}, PASS),
        ({0.0: 1990, 1.0: 10}, {"weights": (0.1, 10.0)}, PASS),
        ({0.0: 1990, 1.0: 10}, {"several": True}, PASS),
        ({0.0: 1990, 1.0: 10}, BINARY, WARN),
        ({0.0: 1990, 1.0: 10}, {**BINARY, "output_mean": -5.3}, PASS),
        ({0.0: 1990, 1.0: 10}, {**BINARY, "pos_weight": (199.0,)}, PASS),
    ],
)
def test_an_extreme_imbalance(counts: dict[float, int], changed: dict[str, Any], status: Status) -> None:
    seen = labels(counts, kind="float" if "kind" in changed else "integer")
    assert class_balance(losses(call(**changed)), data(seen), sampling()).status is status


def test_soft_targets_and_skips() -> None:
    columns = spread((0.8, 0.1), (0.15, 0.1), (0.05, 0.1))
    seen = dataclasses.replace(labels(kind="float", shape=(3,)), columns=columns, counts=None)
    wrong = call(soft=True, weights=(16.0, 5.0, 1.0))
    assert class_balance(losses(wrong), data(seen), sampling()).status is FAIL
    assert class_balance(losses(call(kind="mse")), data(labels()), sampling()).status is Status.SKIP
    assert class_balance(losses(), data(), sampling()).status is Status.SKIP


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [30, 20, 10]) == 0
    assert rank_correlation([1, 1, 2], [1, 1, 2]) == pytest.approx(1)


@pytest.mark.parametrize(("drawn", "near"), [(0.62, True), (0.58, True), (0.8, False), (0.4, False)])
def test_a_sampler_near_its_limit_says_so(drawn: float, near: bool) -> None:
    held = ((0.0, 500), (1.0, 300), (2.0, 200))
    counts = {0.0: round(1000 * drawn), 1.0: round(600 * (1 - drawn)), 2.0: round(400 * (1 - drawn))}
    asked = sampling(sampler="WeightedRandomSampler", weights=1000, length=1000, labels=held)
    verdict = class_balance(losses(call()), data(labels(counts)), asked)
    assert bool(verdict.near) is near, (verdict.near, verdict.status)
    assert verdict.spread


def test_a_whole_pass_is_a_count_and_has_no_error() -> None:
    verdict = class_balance(losses(call()), data(labels(UNEVEN)), sampling())
    assert verdict.spread == {}
