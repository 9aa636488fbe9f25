"""batch-mixing on evidence made by hand."""

from dataclasses import replace
from math import inf

import pytest

from nncheck.checks.wiring.batch_mixing import batch_mixing
from nncheck.lab.swapping import Swap
from nncheck.probes.batch_dependencies import BatchDependencies, Mixing
from nncheck.verdict import Place, Status

CLEAN = BatchDependencies(
    samples=32,
    batch_size=32,
    passes=10,
    inputs=("[0]",),
    outputs=("the output",),
    leaking=0,
    share=0.0,
    mixing=None,
    swap=Swap(change=0.0),
    statistics=(),
)
HERE = Place(name="net", file="model.py", line=7, source="x.view(t, b, -1)")


def _leaking(function: str = "view", **changes: object) -> BatchDependencies:
    mixing = Mixing(function=function, place=HERE, reach=((1.0, 0.5), (0.0, 1.0)))
    return replace(CLEAN, leaking=3, share=1.9, mixing=mixing, **changes)


@pytest.mark.parametrize(
    ("deps", "status"),
    [
        (CLEAN, Status.PASS),
        (replace(CLEAN, swap=Swap(reason="random")), Status.PASS),
        (replace(CLEAN, passes=0), Status.PASS),
        (_leaking(), Status.FAIL),
        (replace(_leaking(), share=inf), Status.FAIL),
        (replace(_leaking(), mixing=Mixing(function="", place=None, reach=())), Status.FAIL),
        (replace(_leaking(), mixing=None), Status.FAIL),
        (replace(_leaking(), mixing=Mixing(function="mm", place=HERE, reach=(), by_design="MoE routes")), Status.SKIP),
        (replace(CLEAN, swap=Swap(change=0.49, moved=1.0, place=HERE)), Status.FAIL),
        (replace(CLEAN, swap=Swap(change=0.0, moved=0.5)), Status.PASS),
        (replace(CLEAN, swap=Swap(change=0.3, moved=0.51)), Status.FAIL),
        (replace(CLEAN, statistics=(HERE,)), Status.WARN),
    ],
)
def test_verdicts(deps: BatchDependencies, status: Status) -> None:
    assert batch_mixing(deps).status is status


def test_a_finding_says_where_and_shows_the_pairs() -> None:
    verdict = batch_mixing(_leaking())
    assert verdict.places == (HERE,)
    assert verdict.exhibits[0].kind == "heatmap"
    assert "1 of 2 ordered pairs" in verdict.measured
    assert "transpose" in verdict.remedies[0].text


@pytest.mark.parametrize(
    ("function", "word"), [("lstm", "batch_first"), ("softmax", "dim=-1"), ("matmul", "dimension 0"), ("sub", "means")]
)
def test_the_remedy_fits_the_call(function: str, word: str) -> None:
    assert word in batch_mixing(_leaking(function)).remedies[0].text


def test_fewer_samples_than_the_batch_are_said() -> None:
    assert "64 of the batch's 256" in batch_mixing(replace(CLEAN, samples=64, batch_size=256)).measured
