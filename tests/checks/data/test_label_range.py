"""label-range on evidence made by hand."""

import math
from typing import Any

import pytest

from nncheck.checks.data.label_range import label_range
from nncheck.probes.loss_targets import CtcTarget
from nncheck.verdict import Place, Status
from tests.checks.data.evidence import call, data, labels, losses, rows, spread

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS

BINARY = {"kind": "bce-with-logits", "classes": 0, "ignore_index": None, "integer": False, "dtype": "float32"}
REGRESSION = {
    "kind": "mse",
    "classes": 0,
    "ignore_index": None,
    "integer": False,
    "dtype": "float32",
    "root_whole": 0.0,
}
SOFT = {"soft": True, "ignore_index": None, "integer": False, "dtype": "float32", "shape": (32, 3)}
CUT = {-2.0: 6, -1.0: 41, 0.0: 205, 1.0: 41, 2.0: 7}


@pytest.mark.parametrize(
    ("changed", "counts", "status"),
    [
        ({}, {0.0: 100, 1.0: 100, 2.0: 100}, PASS),
        ({}, {0.0: 299, 2.0: 1}, PASS),
        # Labels no output stands for; -100 is ignored.
        ({}, {0.0: 100, 3.0: 1}, FAIL),
        ({}, {-1.0: 1, 0.0: 100}, FAIL),
        ({}, {-100.0: 100, 0.0: 100, 1.0: 100}, PASS),
        # All the same.
        ({}, {1.0: 300}, FAIL),
        ({}, {1.0: 31}, PASS),
        ({}, {-100.0: 100, 1.0: 200}, FAIL),
        # Counted from one for an output more; the missing one may be rare, or be padding.
        ({}, {1.0: 100, 2.0: 100}, WARN),
        ({}, {1.0: 100, 2.0: 9}, PASS),
        ({"ignore_index": 0}, {1.0: 100, 2.0: 100}, PASS),
        ({"several": True, "shape": (32, 12)}, {1.0: 100, 2.0: 100}, PASS),
        # A head too wide: twice, and more than e times.
        ({"classes": 5}, {0.0: 100, 1.0: 100}, WARN),
        ({"classes": 6}, {0.0: 100, 1.0: 100}, FAIL),
        ({"classes": 3}, {0.0: 100, 1.0: 100}, PASS),
        ({"classes": 1000}, {0.0: 100, 1.0: 9}, PASS),
        ({"classes": 1000, "several": True, "shape": (32, 12)}, {0.0: 100, 1.0: 100}, PASS),
        # A class that is ignored: one label a sample has no padding.
        ({"ignore_index": 0}, {0.0: 100, 1.0: 100, 2.0: 100}, FAIL),
        ({"ignore_index": 0, "several": True, "shape": (32, 12), "inner": 0.0}, {0.0: 100, 1.0: 100, 2.0: 100}, PASS),
        ({"ignore_index": 0, "several": True, "shape": (32, 12), "inner": 0.25}, {0.0: 100, 1.0: 100, 2.0: 100}, WARN),
        ({"ignore_index": 0, "several": True, "shape": (32, 12), "inner": 0.85}, {0.0: 100, 1.0: 100, 2.0: 100}, PASS),
        ({"ignore_index": 0, "several": True, "shape": (32, 8, 8)}, {0.0: 100, 1.0: 100, 2.0: 100}, PASS),
        ({"ignore_index": 0, "several": True, "shape": (32, 8, 8)}, {0.0: 400, 1.0: 100, 2.0: 100}, WARN),
        ({"roots": (), "own": ""}, {1.0: 300}, Status.SKIP),
    ],
)
def test_classes(changed: dict[str, Any], counts: dict[float, int], status: Status) -> None:
    verdict = label_range(losses(call(**changed)), data(labels(counts)))
    assert verdict.status is status, verdict
    assert verdict.measured or status is Status.SKIP


def test_of_an_unfinished_pass_nothing_is_missing() -> None:
    assert label_range(losses(call()), data(labels({1.0: 300}), complete=False)).status is PASS
    assert label_range(losses(call(classes=1000)), data(labels({0.0: 50, 1.0: 50}), complete=False)).status is PASS


def test_a_model_that_predicts_its_own_tokens_may_mark_the_others_with_the_padding() -> None:
    seen = call(ignore_index=0, several=True, shape=(32, 12), inner=0.3, classes=3)
    counts = data(labels({0.0: 100, 1.0: 100, 2.0: 100}))
    assert label_range(losses(seen, vocabulary=3), counts).status is PASS
    assert label_range(losses(seen, vocabulary=20), counts).status is WARN


@pytest.mark.parametrize(("empty", "reduction", "status"), [(0, "mean", PASS), (2, "mean", FAIL), (2, "sum", PASS)])
def test_batches_without_a_target(empty: int, reduction: str, status: Status) -> None:
    seen = labels({-100.0: 50, 0.0: 100, 1.0: 100, 2.0: 100}, one_value_batches=((-100.0, empty),) if empty else ())
    assert label_range(losses(call(reduction=reduction)), data(seen)).status is status


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"low": 0.0, "high": 1.0, "distinct": (0.0, 1.0)}, PASS),
        ({"low": 0.0, "high": 1.0, "distinct": ()}, PASS),
        ({"low": -1.0, "high": 1.0}, FAIL),
        ({"low": 0.0, "high": 255.0}, FAIL),
        ({"kind": "soft-margin", "low": 0.0, "high": 1.0, "distinct": (0.0, 1.0)}, FAIL),
        ({"kind": "soft-margin", "low": -1.0, "high": 1.0, "distinct": (-1.0, 1.0)}, PASS),
        ({"kind": "poisson-nll", "low": -0.5, "high": 4.0}, FAIL),
        ({"kind": "poisson-nll", "low": 0.0, "high": 4.0}, PASS),
        ({"low": math.nan, "high": math.nan}, PASS),
    ],
)
def test_domain(changed: dict[str, Any], status: Status) -> None:
    assert label_range(losses(call(**{**BINARY, "own": "", **changed})), data()).status is status


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"to_one": 1.0, "all_zero": 0.0, "low_sum": 1.0, "high_sum": 1.0, "high": 1.0}, PASS),
        ({"to_one": 1.0, "all_zero": 0.0, "low_sum": 0.9995, "high_sum": 1.0005, "high": 1.0}, PASS),
        # Masked rows are zero.
        ({"to_one": 0.9, "all_zero": 0.1, "low_sum": 0.0, "high_sum": 1.0, "high": 1.0}, PASS),
        ({"to_one": 0.0, "all_zero": 1.0, "low_sum": 0.0, "high_sum": 0.0, "high": 0.0}, FAIL),
        ({"to_one": 0.3, "all_zero": 0.0, "low_sum": 1.0, "high_sum": 3.0, "high": 1.0}, FAIL),
        ({"to_one": 0.0, "all_zero": 0.0, "low_sum": 2.0, "high_sum": 2.0, "high": 2.0}, FAIL),
    ],
)
def test_soft_targets(changed: dict[str, Any], status: Status) -> None:
    assert label_range(losses(call(**{**SOFT, "own": "", **changed})), data()).status is status


@pytest.mark.parametrize(("zero", "last", "status"), [(0.3, 0.0, FAIL), (0.3, 0.2, PASS), (0.0, 0.0, PASS)])
def test_one_hot_rows_without_a_class(zero: float, last: float, status: Status) -> None:
    seen = labels(
        {0.0: 600, 1.0: 300}, kind="float", shape=(3,), columns=spread((0.5, 0.5), (0.3, 0.5), (last, 0.1)),
        rows=rows(all_zero=zero, to_one=1 - zero),
    )  # fmt: skip
    one = call(**SOFT, to_one=1 - zero, all_zero=zero, low_sum=0.0, high_sum=1.0, high=1.0)
    assert label_range(losses(one), data(seen)).status is status


@pytest.mark.parametrize(
    ("changed", "columns", "status"),
    [
        ({}, 4, WARN),
        ({"to_one": 0.99}, 4, PASS),
        ({"number": 199}, 4, PASS),
        ({}, 2, PASS),
    ],
)
def test_classes_that_exclude_each_other(changed: dict[str, Any], columns: int, status: Status) -> None:
    seen = labels(
        {0.0: 900, 1.0: 300},
        kind="float",
        shape=(columns,),
        columns=spread(*[(0.25, 0.4)] * columns),
        rows=rows(**changed),
    )
    assert label_range(losses(call(**BINARY, low=0.0, high=1.0)), data(seen)).status is status


@pytest.mark.parametrize(
    ("changed", "counts", "status"),
    [
        ({"whole": 0.01}, None, PASS),
        # The tensor they were made of has decimals.
        ({"whole": 1.0, "root_whole": 0.01, "distinct": (0.0, 1.0)}, None, FAIL),
        ({"whole": 1.0, "root_whole": 1.0, "distinct": (1.0, 2.0, 3.0, 4.0, 5.0), "low": 1.0, "high": 5.0}, None, PASS),
        (
            {"whole": 1.0, "root_whole": 1.0, "distinct": (-1.0, 0.0, 1.0), "low": -1.0, "high": 1.0, "std": 0.6},
            None,
            PASS,
        ),
        (
            {"whole": 1.0, "root_whole": 1.0, "distinct": (-1.0, 0.0, 1.0), "low": -1.0, "high": 1.0, "integer": True},
            None,
            WARN,
        ),
        (
            {"whole": 1.0, "root_whole": 1.0, "distinct": (-2.0, -1.0, 0.0, 1.0, 2.0), "low": -2.0, "high": 2.0},
            CUT,
            WARN,
        ),
        # Differences of scores: nothing comes in two thirds of all cases.
        (
            {"whole": 1.0, "root_whole": 1.0, "distinct": (-2.0, -1.0, 0.0, 1.0, 2.0), "low": -2.0, "high": 2.0},
            {-2.0: 30, -1.0: 70, 0.0: 100, 1.0: 70, 2.0: 30},
            PASS,
        ),
    ],
)
def test_cut_to_whole_numbers(changed: dict[str, Any], counts: dict[float, int] | None, status: Status) -> None:
    seen = call(**{**REGRESSION, "own": "[1]" if counts else "", **changed})
    verdict = label_range(losses(seen), data(labels(counts, kind="float")) if counts else data())
    assert verdict.status is status, verdict


@pytest.mark.parametrize(("blanks", "status"), [(0, Status.SKIP), (3, FAIL)])
def test_ctc(blanks: int, status: Status) -> None:
    ctc = CtcTarget(place=Place(name="loss"), blank=0, blanks=blanks, labels=100, classes=20)
    assert label_range(losses(ctc=(ctc,)), data()).status is status


def test_an_end_that_is_never_asked_for() -> None:
    assert label_range(losses(call(own=""), last_token=2), data()).status is WARN
