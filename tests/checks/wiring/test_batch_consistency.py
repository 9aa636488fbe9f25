"""batch-consistency on evidence made by hand."""

from dataclasses import replace
from math import nan

import pytest

from nncheck.checks.wiring.batch_consistency import batch_consistency
from nncheck.probes.sample_runs import LastBatch, SampleRuns
from nncheck.verdict import Place, Status

HERE = Place(name="net", file="model.py", line=7)
CLEAN = SampleRuns(
    size=32,
    asked=("one: 0", "one: 16", "one: 31", "two: 31, 0"),
    apart=(1e-7, 0.0, 2e-7, 1e-7),
    allowed=1e-5,
    refused=(),
    function="",
    place=None,
    reason="",
    last=None,
)
FAILS = LastBatch(samples=1, failure="ValueError: Expected more than 1 value per channel when training", places=(HERE,))


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (CLEAN, Status.PASS),
        (replace(CLEAN, apart=(1e-5, 1e-5, 1e-5, 1e-5)), Status.PASS),
        (replace(CLEAN, apart=(0.1, 0.1, 0.0, 0.0)), Status.PASS),
        (replace(CLEAN, apart=(0.1, 0.1, 0.1, 0.0)), Status.FAIL),
        (replace(CLEAN, apart=(1.1e-5, 1.1e-5, 1.1e-5, 0.0)), Status.FAIL),
        (replace(CLEAN, apart=(nan, nan, nan, nan)), Status.FAIL),
        (replace(CLEAN, apart=(0.1,), asked=("two: 31, 0",), refused=(1,)), Status.FAIL),
        (replace(CLEAN, apart=(0.1, 0.1, 0.1, 0.1), reason="the model rounds"), Status.SKIP),
        (replace(CLEAN, asked=(), apart=(), reason="only the whole batch"), Status.SKIP),
        (replace(CLEAN, last=replace(FAILS, failure="", places=())), Status.PASS),
        (replace(CLEAN, each=2), Status.FAIL),
        (replace(CLEAN, last=FAILS), Status.FAIL),
        (replace(CLEAN, last=FAILS, reason="the model draws random numbers"), Status.FAIL),
    ],
)
def test_verdicts(runs: SampleRuns, status: Status) -> None:
    assert batch_consistency(runs).status is status


def test_a_finding_says_where() -> None:
    verdict = batch_consistency(replace(CLEAN, apart=(0.1,) * 4, function="mean", place=HERE))
    assert verdict.places == (HERE,)
    assert "`mean`" in verdict.summary
    assert verdict.exhibits[0].kind == "bars"


@pytest.mark.parametrize(("samples", "word"), [(1, "drop_last"), (7, "x.size(0)")])
def test_the_first_remedy_fits_the_last_batch(samples: int, word: str) -> None:
    verdict = batch_consistency(replace(CLEAN, last=replace(FAILS, samples=samples)))
    assert word in verdict.remedies[0].text + (verdict.remedies[0].code or "")
    assert verdict.places == (HERE,)


@pytest.mark.parametrize(
    ("apart", "near"),
    [
        ((1.1e-5,) * 4, True),
        ((9e-6,) * 4, True),
        ((0.1,) * 4, False),
        ((1e-7,) * 4, False),
        ((0.1, 1e-7, 1e-7, 1e-7), False),
    ],
)
def test_a_difference_near_rounding_says_so(apart: tuple[float, ...], near: bool) -> None:
    verdict = batch_consistency(replace(CLEAN, apart=apart))
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["apart"] == pytest.approx(0.4 * max(apart))
