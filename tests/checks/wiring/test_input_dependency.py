"""input-dependency on evidence made by hand."""

from dataclasses import replace
from math import nan

import pytest

from nncheck.checks.wiring.input_dependency import FEWEST, PADDING, input_dependency
from nncheck.probes.input_reach import ArgumentUse, AxisUse, InputReach
from nncheck.probes.padding import Padding, PaddingRuns
from nncheck.verdict import Place, Status

HERE = Place(name="net", file="model.py", line=7)
AXIS = AxisUse(kind="features", axis=1, length=8, varying=8, unused=())
X = ArgumentUse(name="x", shape="float32[32, 8]", used=True, axes=(AXIS,))
MASK = ArgumentUse(name="mask", shape="bool[32, 8]", used=True, axes=())
NONE = PaddingRuns(padding=None, kept=0, samples=0, moved=None, function="", place=None)
MASKED = Padding(by="mask", name="mask", steps=16, shortest=4, share=0.4)
PADDED = PaddingRuns(padding=MASKED, kept=9, samples=16, moved=0.06, function="mean", place=HERE)


def _reach(*arguments: ArgumentUse) -> InputReach:
    return InputReach(samples=32, arguments=arguments, constant=(), chosen=False)


def _axis(kind: str, unused: int, length: int = 8) -> ArgumentUse:
    axis = AxisUse(kind=kind, axis=1, length=length, varying=length, unused=tuple(range(unused)))  # type: ignore[arg-type]
    return replace(X, axes=(axis,))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((X,), Status.PASS),
        ((X, replace(MASK, used=False)), Status.WARN),
        ((replace(X, used=False),), Status.FAIL),
        ((replace(X, used=False), replace(MASK, used=False)), Status.FAIL),
        ((_axis("features", 1),), Status.WARN),
        ((_axis("features", 7),), Status.FAIL),
        ((_axis("channels", 2, length=3),), Status.WARN),
        ((_axis("positions", 6),), Status.PASS),  # a receptive field
        ((_axis("positions", 7),), Status.FAIL),
        ((_axis("positions", FEWEST - 2, length=FEWEST - 1),), Status.PASS),
        ((_axis("pixels", 7),), Status.PASS),
    ],
)
def test_arguments_and_what_is_in_them(arguments: tuple[ArgumentUse, ...], status: Status) -> None:
    assert input_dependency(_reach(*arguments), NONE).status is status


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (PADDED, Status.FAIL),
        (replace(PADDED, padding=replace(MASKED, by="lengths")), Status.FAIL),
        (replace(PADDED, padding=replace(MASKED, by="token")), Status.WARN),
        (replace(PADDED, moved=PADDING), Status.PASS),
        (replace(PADDED, moved=PADDING * 1.01), Status.FAIL),
        (replace(PADDED, moved=None), Status.PASS),
        (replace(PADDED, moved=nan), Status.PASS),
        (replace(PADDED, function="conv1d"), Status.PASS),
        (replace(PADDED, function="gru"), Status.PASS),
        (replace(PADDED, function=""), Status.PASS),
    ],
)
def test_padding(runs: PaddingRuns, status: Status) -> None:
    assert input_dependency(_reach(X), runs).status is status


def test_an_unused_mask_is_told_by_what_it_should_have_kept_out() -> None:
    verdict = input_dependency(_reach(X, replace(MASK, used=False)), PADDED)
    assert verdict.status is Status.FAIL
    assert "never used" in verdict.causes[0]
    assert verdict.places == (HERE,)


@pytest.mark.parametrize(
    ("function", "word"), [("softmax", "key_padding"), ("mean", "mask.sum"), ("__getitem__", "lengths - 1")]
)
def test_the_remedy_fits_the_call(function: str, word: str) -> None:
    assert word in input_dependency(_reach(X), replace(PADDED, function=function)).remedies[0].text
