"""input-preview on evidence made by hand."""

from typing import Any

import pytest

from nncheck.checks.data.input_preview import input_preview
from nncheck.probes.stored_items import StoredItems
from nncheck.verdict import Sample, Samples, Status
from tests.checks.data.evidence import entry, given

NOTHING = StoredItems(items=None, decoded=None)
FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS
WORDS = {"kind": "embedding", "shape": (32, 14), "ids": 40}


@pytest.mark.parametrize(
    ("entries", "status"),
    [
        ((entry(),), PASS),
        ((entry(same=True),), FAIL),
        ((entry(same=True, samples=7),), PASS),
        # Positions, masks and grids are the same for every sample, beside what is not.
        ((entry(), entry(same=True)), PASS),
        ((entry(same=True), entry(same=True)), FAIL),
        ((entry(blank=0.95, shape=(32, 12, 4)),), WARN),
        ((entry(blank=0.94, shape=(32, 12, 4)),), PASS),
        ((entry(blank=1.0, shape=(32, 7, 1)),), PASS),
        ((entry(blank=1.0, shape=(32, 40)),), PASS),
        ((entry(blank=1.0, shape=(32, 14), kind="embedding"),), WARN),
        ((entry(**WORDS, frequent=1, frequent_share=0.82, second_share=0.02),), WARN),
        ((entry(**WORDS, frequent=0, frequent_share=0.82, second_share=0.02),), PASS),
        ((entry(**WORDS, frequent=1, frequent_share=0.5, second_share=0.02),), PASS),
        ((entry(**WORDS, frequent=1, frequent_share=0.6, second_share=0.3),), PASS),
        ((entry(**{**WORDS, "ids": 19}, frequent=1, frequent_share=0.9, second_share=0.02),), PASS),
        ((entry(**WORDS, frequent=None),), PASS),
        ((entry(kind="other"),), Status.SKIP),
        ((), Status.SKIP),
    ],
)
def test_verdict(entries: tuple[Any, ...], status: Status) -> None:
    verdict = input_preview(given(*entries), NOTHING)
    assert verdict.status is status, verdict
    assert verdict.measured or status is Status.SKIP


def test_pictures_are_attached() -> None:
    shown = Samples(title="seen", samples=(Sample(caption="a", text="1 2 3"),))
    stored = Samples(title="stored", samples=(Sample(caption="b", text="4 5 6"),))
    verdict = input_preview(given(entry(shown=shown)), StoredItems(items=stored, decoded=shown))
    assert verdict.exhibits == (shown, shown, stored)
