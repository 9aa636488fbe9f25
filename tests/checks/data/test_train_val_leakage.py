"""The judgement alone, on evidence made by hand."""

from dataclasses import replace
from typing import Any

import pytest

from nncheck.checks.data import train_val_leakage as limits
from nncheck.checks.data.train_val_leakage import train_val_leakage
from nncheck.probes.split_overlap import SplitOverlap
from nncheck.probes.target_copies import TargetCopies
from nncheck.verdict import Status

CLEAN = SplitOverlap(there=True, train=800, val=1000, shared_items=0, val_items=1000)
TABLE = TargetCopies(samples=800, columns=3, kind="numbers", left=(1.0, 0.5, 0.9), measured=3)
SERIES = replace(CLEAN, steps=12, block=3)


@pytest.mark.parametrize(
    ("split", "table", "status"),
    [
        (CLEAN, TABLE, Status.PASS),
        (SplitOverlap(), TABLE, Status.PASS),
        (SplitOverlap(), TargetCopies(), Status.SKIP),
        (replace(CLEAN, same="loader"), TABLE, Status.FAIL),
        (replace(CLEAN, same="data"), TABLE, Status.FAIL),
        (replace(CLEAN, shared_items=10), TABLE, Status.PASS),
        (replace(CLEAN, shared_items=11), TABLE, Status.WARN),
        (replace(CLEAN, shared_items=101), TABLE, Status.FAIL),
        (replace(CLEAN, shared_items=-1, val_items=-1), TABLE, Status.PASS),
        (replace(CLEAN, shared_items=2, val_items=10), TABLE, Status.PASS),
        (replace(CLEAN, seen=10), TABLE, Status.PASS),
        (replace(CLEAN, seen=30), TABLE, Status.WARN),
        (replace(CLEAN, seen=110), TABLE, Status.FAIL),
        # Two of twenty: by chance, perhaps.
        (replace(CLEAN, seen=2, val=20), TABLE, Status.PASS),
        # As often as among training samples.
        (replace(CLEAN, seen=900, within=0.9), TABLE, Status.PASS),
        (replace(CLEAN, seen=900, within=0.5), TABLE, Status.FAIL),
        (replace(CLEAN, seen=30, within=0.025), TABLE, Status.PASS),
        (replace(SERIES, windows=int(limits.WINDOWS * 1000)), TABLE, Status.PASS),
        (replace(SERIES, windows=int(limits.WINDOWS * 1000) + 1), TABLE, Status.WARN),
        (replace(SERIES, windows=24, val=40), TABLE, Status.PASS),
        (replace(CLEAN, near=limits.NEAR, asked=1000), TABLE, Status.PASS),
        (replace(CLEAN, near=limits.NEAR + 0.01, asked=1000), TABLE, Status.WARN),
        (replace(CLEAN, near=0.9, near_within=0.5, asked=1000), TABLE, Status.PASS),
        (CLEAN, replace(TABLE, left=(1.0, 1.1 * limits.LEFT, 0.9)), Status.PASS),
        (CLEAN, replace(TABLE, left=(1.0, 0.9 * limits.LEFT, 0.9)), Status.FAIL),
        (CLEAN, replace(TABLE, left=(1.0, float("nan"), 0.9)), Status.PASS),
        (CLEAN, replace(TABLE, kind="classes", left=(1.0, 0.9 * limits.LEFT_IN_CLASS, 0.9)), Status.FAIL),
        (CLEAN, replace(TABLE, kind="classes", left=(1.0, 1.1 * limits.LEFT_IN_CLASS, 0.9)), Status.PASS),
        # A table of codes: a column may decide the class by design.
        (CLEAN, replace(TABLE, kind="classes", left=(1.0, 0.0, 0.9), measured=1), Status.PASS),
    ],
)
def test_train_val_leakage(split: SplitOverlap, table: TargetCopies, status: Status) -> None:
    assert train_val_leakage(split, table).status is status


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"seen": 13, "complete": False}, True),
        ({"seen": 95, "complete": False}, True),
        ({"seen": 40, "complete": False}, False),
        ({"seen": 13}, False),  # both were seen whole: a count
        ({"near": 0.51, "asked": 200}, True),
        ({"near": 0.49, "asked": 200}, True),
        ({"near": 0.49, "asked": 1000}, False),
        ({"near": 0.8, "asked": 200}, False),
        ({"near": 0.49, "asked": 200, "same": "loader"}, False),
    ],
)
def test_near_its_limits_it_says_so(changes: dict[str, Any], near: bool) -> None:
    verdict = train_val_leakage(replace(CLEAN, **changes), TABLE)
    assert bool(verdict.near) is near, verdict.near
