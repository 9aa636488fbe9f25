"""output-range on evidence made by hand."""

from dataclasses import replace
from math import inf, nan

import pytest

from nncheck.checks.wiring.output_range import CUT, LOST_CLASSES, LOST_VALUES, MUCH, STUCK, output_range
from nncheck.probes.output_range import OutputRange, Reach
from nncheck.verdict import Place, Status

HERE = Place(name="net.3", file="model.py", line=9)
VALUE = Reach(
    kind="mse",
    place=Place(name="loss"),
    function="tanh",
    function_place=HERE,
    since=0,
    low=-1.0,
    high=1.0,
    wanted_low=-2.5,
    wanted_high=2.5,
    outside=0.0,
    floor=0.0,
    free=0.0,
    constant=1.0,
    classes=1,
    targets=256,
    at_low=0.0,
    at_high=0.0,
    stuck=0.0,
    fixed=True,
    edges=(0.0, 1.0),
    counts=(3.0,),
)
SCORES = replace(VALUE, kind="cross-entropy", function="relu", low=0.0, high=inf, classes=4)
CUT_OFF = replace(VALUE, kind="bce", function="clamp", low=0.0, high=1.0)


def _seen(*reaches: Reach) -> OutputRange:
    return OutputRange(kinds=("mse",), unbounded=0, reaches=reaches)


@pytest.mark.parametrize(
    ("reach", "status"),
    [
        (VALUE, Status.PASS),
        (replace(VALUE, outside=0.3, floor=LOST_VALUES), Status.PASS),
        (replace(VALUE, outside=0.3, floor=LOST_VALUES * 1.01), Status.WARN),
        (replace(VALUE, outside=0.3, floor=MUCH), Status.WARN),
        (replace(VALUE, outside=0.3, floor=MUCH * 1.01), Status.FAIL),
        (replace(VALUE, outside=0.0, floor=MUCH * 2), Status.PASS),
        (replace(VALUE, outside=0.3, floor=MUCH * 2, fixed=False), Status.PASS),
        (replace(VALUE, outside=0.3, floor=nan), Status.PASS),
        (replace(VALUE, outside=0.3, floor=0.0, constant=0.0), Status.PASS),
        (replace(SCORES, stuck=STUCK), Status.PASS),
        (replace(SCORES, stuck=STUCK * 1.01), Status.FAIL),
        (replace(SCORES, stuck=0.5, since=1), Status.PASS),
        (replace(SCORES, function="tanh", low=-1.0, high=1.0, floor=LOST_CLASSES * 1.01), Status.WARN),
        (replace(SCORES, function="tanh", low=-1.0, high=1.0, floor=0.34), Status.FAIL),
        (replace(SCORES, function="sigmoid", low=0.0, high=1.0, floor=0.7), Status.PASS),
        (replace(CUT_OFF, at_low=CUT / 2, at_high=CUT / 2), Status.PASS),
        (replace(CUT_OFF, at_low=CUT / 2, at_high=CUT * 0.51), Status.FAIL),
    ],
)
def test_verdicts(reach: Reach, status: Status) -> None:
    assert output_range(_seen(reach)).status is status


def test_nothing_to_judge() -> None:
    assert output_range(OutputRange(kinds=(), unbounded=0, reaches=())).status is Status.SKIP
    assert output_range(OutputRange(kinds=("mse",), unbounded=1, reaches=())).status is Status.PASS


def test_a_finding_names_the_line_and_the_floor() -> None:
    verdict = output_range(_seen(replace(VALUE, outside=0.32, floor=0.228)))
    assert verdict.places[0] == HERE
    assert "0.228" in verdict.summary
    assert "tanh" in verdict.remedies[0].text
    assert verdict.exhibits[0].kind == "histogram"


@pytest.mark.parametrize(
    ("reach", "near"),
    [
        (replace(SCORES, stuck=0.14), True),  # of 256 targets: known to 0.02
        (replace(SCORES, stuck=0.11), True),
        (replace(SCORES, stuck=0.4), False),
        (replace(SCORES, stuck=0.02), False),
        (replace(SCORES, stuck=0.14, function="gelu"), False),
        (replace(CUT_OFF, at_low=0.06, at_high=0.05), True),
        (replace(CUT_OFF, at_low=0.3), False),
        (VALUE, False),
    ],
)
def test_near_its_limits_it_says_so(reach: Reach, near: bool) -> None:
    verdict = output_range(_seen(reach))
    assert bool(verdict.near) is near, verdict.near
    assert "stuck" in verdict.spread
