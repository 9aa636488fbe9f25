"""The judgement alone, on evidence made by hand."""

from dataclasses import replace
from typing import Any

import pytest

from nncheck.checks.data import duplicate_samples as limits
from nncheck.checks.data.duplicate_samples import duplicate_samples
from nncheck.probes.duplicates import Duplicates
from nncheck.probes.worker_streams import WorkerStreams
from nncheck.verdict import Status

PLAIN = Duplicates(
    samples=1000, distinct=1000, stored=True, drawn=1000, drawn_distinct=1000, items=1000, classes=3, label_entropy=1.0,
    distinct_entropy=1.0,
)  # fmt: skip
STREAM = WorkerStreams(workers=2, asked=True, shared=1.0, same_order=True, samples=100)


@pytest.mark.parametrize(
    ("seen", "workers", "status"),
    [
        (PLAIN, WorkerStreams(), Status.PASS),
        (replace(PLAIN, distinct=int(1000 * (1 - limits.COPIES))), WorkerStreams(), Status.PASS),
        (replace(PLAIN, distinct=int(1000 * (1 - limits.COPIES)) - 1), WorkerStreams(), Status.WARN),
        (replace(PLAIN, distinct=500, stored=False), WorkerStreams(), Status.PASS),
        # Codes meet by chance; many of them do not.
        (replace(PLAIN, distinct=500, few_values=True, bits=20.0), WorkerStreams(), Status.PASS),
        (replace(PLAIN, distinct=500, few_values=True, bits=2000.0), WorkerStreams(), Status.WARN),
        # Copies that make classes more even are meant.
        (replace(PLAIN, distinct=500, distinct_entropy=0.8), WorkerStreams(), Status.PASS),
        # Drawn with replacement: 632 of 1000, each 1.6 times.
        (replace(PLAIN, distinct=632, drawn_distinct=632), WorkerStreams(), Status.PASS),
        # One weight for each class: that is what class-balance says.
        (replace(PLAIN, distinct=3, drawn_distinct=3, weights=3), WorkerStreams(), Status.PASS),
        (replace(PLAIN, distinct=3, drawn_distinct=3), WorkerStreams(), Status.FAIL),
        (replace(PLAIN, distinct=632, drawn_distinct=632, weights=1000), WorkerStreams(), Status.PASS),
        (replace(PLAIN, distinct=90, drawn_distinct=90), WorkerStreams(), Status.FAIL),
        (replace(PLAIN, conflicts=300, floor=1.01 * limits.FLOOR), WorkerStreams(), Status.WARN),
        (replace(PLAIN, conflicts=300, floor=limits.FLOOR), WorkerStreams(), Status.PASS),
        (replace(PLAIN, conflicts=300, floor=float("nan")), WorkerStreams(), Status.PASS),
        (replace(PLAIN, conflicts=300, floor=0.5, classes=0), WorkerStreams(), Status.PASS),
        (PLAIN, STREAM, Status.FAIL),
        (PLAIN, replace(STREAM, same_order=False), Status.PASS),
        (PLAIN, replace(STREAM, same_order=False, ended=True), Status.FAIL),
        (PLAIN, replace(STREAM, same_order=False, ended=True, shared=0.5), Status.PASS),
        (PLAIN, replace(STREAM, distinct=0.01), Status.PASS),
        (Duplicates(samples=0, distinct=0), WorkerStreams(), Status.SKIP),
    ],
)
def test_duplicate_samples(seen: Duplicates, workers: WorkerStreams, status: Status) -> None:
    assert duplicate_samples(seen, workers).status is status


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"distinct": 890, "complete": False}, True),
        ({"distinct": 910, "complete": False}, True),
        ({"distinct": 800, "complete": False}, False),
        ({"distinct": 1000, "complete": False}, False),
        ({"distinct": 890}, False),  # all were seen: a count
        ({"distinct": 910, "complete": False, "stored": False}, False),
        ({"distinct": 890, "complete": False, "conflicts": 300, "floor": 0.5}, False),  # that is not what is found
    ],
)
def test_near_its_limit_it_says_so(changes: dict[str, Any], near: bool) -> None:
    verdict = duplicate_samples(replace(PLAIN, **changes), WorkerStreams())
    assert bool(verdict.near) is near, verdict.near
    assert ("copies" in verdict.spread) is (changes.get("complete") is False)
