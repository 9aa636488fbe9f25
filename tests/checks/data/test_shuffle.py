"""The judgement alone, on evidence made by hand."""

from dataclasses import replace
from typing import Any

import pytest

from nncheck.checks.data import shuffle as limits
from nncheck.checks.data.shuffle import shuffle
from nncheck.probes.batch_order import BatchOrder
from nncheck.verdict import Place, Status

SORTED = BatchOrder(
    kind="classes", batches=20, size=32, last=32, samples=640, classes=4, mixed=0.01, by_chance=1.3, below=90.0, runs=4,
    rising=1.0, same_order=True, indexed=True, drawn_by="SequentialSampler",
)  # fmt: skip
SEED = Place(name="torch.Generator.manual_seed", file="model.py", line=3)
RISING_TARGET = replace(SORTED, kind="numbers", classes=0, by_chance=0.97, runs=640)


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (SORTED, Status.FAIL),
        (replace(SORTED, same_order=False), Status.PASS),
        (replace(SORTED, same_order=None), Status.PASS),
        (replace(SORTED, mixed=1.3, below=0.1), Status.PASS),
        (replace(SORTED, below=limits.BELOW), Status.PASS),
        (replace(SORTED, below=float("nan")), Status.PASS),
        (replace(SORTED, mixed=limits.LITTLE * 1.3), Status.PASS),
        (replace(SORTED, batches=limits.BATCHES - 1), Status.PASS),
        (replace(SORTED, batches=limits.BATCHES), Status.FAIL),
        # Runs of labels, not sorted: one recording after the other.
        (replace(SORTED, runs=30), Status.WARN),
        (replace(SORTED, runs=30, indexed=False), Status.PASS),
        (replace(SORTED, indexed=False), Status.WARN),
        (replace(SORTED, overlap=1.01 * limits.OVERLAP), Status.PASS),
        (RISING_TARGET, Status.FAIL),
        (replace(RISING_TARGET, rising=limits.RISING - 0.01), Status.PASS),
        (replace(RISING_TARGET, indexed=False), Status.WARN),
        (replace(SORTED, kind=""), Status.SKIP),
        (replace(SORTED, batches=1), Status.SKIP),
        (BatchOrder(), Status.SKIP),
        (replace(SORTED, kind="", reseeded=SEED), Status.WARN),
        (replace(SORTED, kind="", reseeded=SEED, same_order=False), Status.SKIP),
    ],
)
def test_shuffle(order: BatchOrder, status: Status) -> None:
    assert shuffle(order).status is status


def test_a_small_last_batch_is_told() -> None:
    assert "last batch has 3 of 32" in shuffle(replace(SORTED, mixed=1.3, below=0.0, last=3)).measured


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({}, False),
        ({"mixed": 0.62, "below": 7.0}, True),
        ({"mixed": 0.62, "below": 5.0}, True),
        ({"mixed": 1.3, "below": 0.1}, False),
        ({"mixed": 0.62, "below": 5.0, "same_order": False}, False),  # another order next time, whatever it is
        ({"mixed": 0.62, "below": 5.0, "runs": 30, "indexed": False}, False),
    ],
)
def test_near_its_limits_it_says_so(changes: dict[str, Any], near: bool) -> None:
    verdict = shuffle(replace(SORTED, **changes))
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["standard_deviations_below"] == 1.0
