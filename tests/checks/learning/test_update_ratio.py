"""update-ratio on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.update_ratio import update_ratio
from nncheck.probes.controls import Control, Controls
from nncheck.verdict import Bars, Status, Verdict
from tests.rehearsals import falling, level, levels, moves, overfit, rehearsal

ADAM = Control(
    kind="adam", optimizer="Adam(lr=0.001)", losses=falling(2.3, 1.0), before=level(2.3), after=level(1.0), first=None,
    last=None,
)  # fmt: skip
FLAT = Controls(doubt="no certain fall", runs=(ADAM,))
NO_DOUBT = Controls(doubt="", runs=())


def _judge(*ratios: float | None, controls: Controls = NO_DOUBT, **changes: Any) -> Verdict:
    rows = tuple(moves(f"{i}.weight", ratio) for i, ratio in enumerate(ratios))
    return update_ratio(rehearsal(moves=rows, **changes), controls, overfit())


def test_a_healthy_run_passes_with_its_bars() -> None:
    verdict = _judge(1e-3, 2e-3, 5e-3)
    assert verdict.status is Status.PASS
    assert verdict.numbers["median"] == 2e-3
    bars = verdict.exhibits[0]
    assert isinstance(bars, Bars)
    assert bars.labels == ("0.weight", "1.weight", "2.weight")


@pytest.mark.parametrize(
    ("ratio", "status"), [(2e-5, Status.PASS), (5e-6, Status.WARN), (2e-8, Status.WARN), (5e-9, Status.FAIL)]
)
def test_small_updates_where_only_adam_lowers_the_loss(ratio: float, status: Status) -> None:
    verdict = _judge(ratio, ratio, controls=FLAT, seen=levels(2.3, 2.299))
    assert verdict.status is status
    if status is not Status.PASS:
        assert "learning-rate" in verdict.follows


def test_small_updates_pass_where_the_loss_falls_or_no_control_does() -> None:
    assert _judge(5e-6).status is Status.PASS
    assert _judge(5e-6, controls=Controls(doubt="no certain fall", runs=())).status is Status.PASS
    flat = dataclasses.replace(ADAM, after=level(2.3))
    assert _judge(5e-6, controls=Controls(doubt="no certain fall", runs=(flat,))).status is Status.PASS


@pytest.mark.parametrize(
    ("ratio", "end", "diverged", "status"),
    [
        (0.2, 9.0, True, Status.PASS),
        (0.5, 9.0, True, Status.WARN),
        (1.5, 9.0, True, Status.FAIL),
        (1.5, 2.4, False, Status.FAIL),
        (1.5, 1.0, False, Status.PASS),
    ],
)
def test_large_updates_where_the_loss_does_not_fall(ratio: float, end: float, diverged: bool, status: Status) -> None:
    controls = Controls(doubt="diverged" if diverged else "", runs=())
    assert _judge(ratio, controls=controls, seen=levels(2.3, end), diverged=diverged).status is status


@pytest.mark.parametrize(
    ("ratio", "rate", "status"),
    [
        (1e-9, 1e-10, Status.WARN),
        (1e-7, 1e-10, Status.PASS),  # small, but float32 holds it
        (1e-9, 1e-3, Status.PASS),  # the rate is as the others': its gradient vanishes
        (1e-9, 1e-7, Status.PASS),
    ],
)
def test_a_group_that_is_as_good_as_frozen(ratio: float, rate: float, status: Status) -> None:
    rows = (moves("0.weight", ratio, rate=rate), moves("2.weight"), moves("4.weight"))
    verdict = update_ratio(rehearsal(moves=rows), NO_DOUBT, overfit())
    assert verdict.status is status
    if status is Status.WARN:
        assert verdict.places[0].name == "0.weight"


def test_what_is_no_weight_matrix_or_never_moves_is_left_out() -> None:
    rows = (
        moves("bias", 10.0, shape=(64,)),
        moves("zero", 10.0, start=0.0),
        moves("table", 1e-9, embedding=True),
        moves("still", 0.0, gradient=0.0),
        moves("rate 0", 0.0, rate=0.0),
        moves("never", None),
    )
    assert update_ratio(rehearsal(moves=rows), NO_DOUBT, overfit()).status is Status.SKIP
    assert update_ratio(rehearsal(moves=(*rows, moves())), NO_DOUBT, overfit()).status is Status.PASS
    assert update_ratio(rehearsal(moves=()), NO_DOUBT, overfit()).status is Status.SKIP
    assert _judge(1e-3, seen=levels(2.3, math.nan)).status is Status.PASS


def test_an_eps_that_outweighs_the_gradients() -> None:
    usual = dataclasses.replace(ADAM, kind="small eps", optimizer="Adam(lr=0.001), eps=1e-08")
    controls = Controls(doubt="large eps", runs=(usual,))
    rows = (moves(ratio=1e-4, eps=1.0),)
    verdict = update_ratio(rehearsal(moves=rows, seen=levels(2.3, 2.2)), controls, overfit())
    assert verdict.status is Status.WARN
    assert verdict.remedies[0].code == "eps=1e-8"
    assert rows[0].of_rate == pytest.approx(1e-4 * 4.0 / 64 / 1e-3)
    slower = update_ratio(rehearsal(moves=rows, seen=levels(2.3, 1.9)), controls, overfit())
    assert slower.status is Status.PASS


@pytest.mark.parametrize(
    ("ratio", "status", "near"),
    [
        (5e-6, Status.WARN, False),
        (9.5e-6, Status.WARN, True),
        (1.05e-5, Status.PASS, True),
        (2e-5, Status.PASS, False),
        (0.28, Status.PASS, True),
        (0.32, Status.WARN, True),
        (0.5, Status.WARN, False),
    ],
)
def test_near_its_limits_it_says_so(ratio: float, status: Status, near: bool) -> None:
    verdict = _judge(ratio, ratio, controls=FLAT, seen=levels(2.3, 2.299))
    assert (verdict.status, bool(verdict.near)) == (status, near), verdict.near
    assert verdict.spread["median"] == pytest.approx(0.05 * ratio)


def test_where_the_loss_falls_no_size_is_near() -> None:
    assert _judge(9.5e-6).near == _judge(0.28).near == ""
