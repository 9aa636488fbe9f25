"""learning-rate on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.learning_rate import learning_rate
from nncheck.lab.held import Level
from nncheck.lab.moves import Descent, Moves
from nncheck.probes.controls import Control, Controls
from nncheck.probes.rate_range import RateRange, RateRun
from nncheck.probes.rehearsal import Levels, Rehearsal
from nncheck.verdict import Curve, Status, Table, Verdict

# Noise between samples that is the same before and after: differences in pairs have almost none.
NOISE = [0.001 * (-1) ** i * (i % 7) for i in range(128)]


def _level(mean: float) -> Level:
    return Level(losses=tuple(mean + n * (1 + mean) for n in NOISE), apart=True, wrong=None)


def _moves(ratio: float) -> Moves:
    return Moves(
        name="0.weight", shape=(64, 64), group=0, rate=0.1, decay=0.0, ratio=ratio, gradient=1.0, start=4.0, end=4.0,
        embedding=False,
    )  # fmt: skip


def _rehearsal(before: float = 2.3, after: float = 0.5, *, ratio: float = 1e-2, diverged: bool = False) -> Rehearsal:
    seen = Levels(
        samples=128, before=_level(before), after=_level(after), eval_before=None, eval_after=None,
    )  # fmt: skip
    return Rehearsal(
        optimizer="SGD(lr=0.1)", distinct=28, size=64, losses=(before, after), gradients=(1.0, 1.0),
        moves=(_moves(ratio),), descents=(Descent(update=0, loss=2.3, predicted=0.1, realised=0.09, again=0.0),),
        seen=seen, fresh=None, validation=None, no_validation="", wanted=None, looks=(), diverged=diverged, noise=None,
        checkpoint=None,
    )  # fmt: skip


def _run(factor: float, gain: float, lead: tuple[float, float] = (1.0, 20.0)) -> RateRun:
    return RateRun(
        optimizer=f"SGD(lr={0.1 * factor:g})", factor=factor, rate=0.1 * factor, losses=((2.3,),) * 32,
        before=_level(2.3), after=_level(2.3 - gain), lead=lead,
    )  # fmt: skip


RATES = tuple(10 ** (-6 + i / 4) for i in range(29))
SMOOTH = (*(2.3,) * 12, *(2.3 - 0.1 * i for i in range(1, 15)), 3.0, 6.0, 9.0)
FOUND = RateRange(
    optimizer="SGD(lr=0.1)", rate=0.1, rates=RATES, losses=SMOOTH, smooth=SMOOTH, ended=True, momentum=0.9, betas=None,
    control=None, tried=(), pretrained="", clips=False,
)  # fmt: skip
NO_DOUBT = Controls(doubt="", runs=())


def _ask(run: Rehearsal | None = None, controls: Controls = NO_DOUBT, **changes: Any) -> Verdict:
    return learning_rate(dataclasses.replace(FOUND, **changes), run or _rehearsal(), controls)


def test_a_rate_that_trains_passes_with_the_range_worth_searching() -> None:
    verdict = _ask()
    assert verdict.status is Status.PASS
    assert "worth searching" in verdict.measured
    assert verdict.numbers["search_low"] < verdict.numbers["search_high"] < verdict.numbers["diverges"]
    curve, table = verdict.exhibits
    assert isinstance(curve, Curve)
    assert curve.log_x
    assert isinstance(table, Table)


@pytest.mark.parametrize(
    ("after", "diverged", "tried", "status"),
    [
        (5.0, True, (_run(0.1, 1.0),), Status.FAIL),
        (2.6, False, (_run(0.1, 1.0),), Status.FAIL),
        (5.0, True, (_run(0.1, 0.2),), Status.PASS),  # less than a tenth of the loss: nobody trains here
        (5.0, True, (_run(0.1, -1.0), _run(0.01, 1.0)), Status.FAIL),
        (5.0, True, (), Status.PASS),
        (math.nan, True, (_run(0.1, 1.0, (math.nan, 0.0)),), Status.FAIL),
        (2.29, False, (_run(0.1, 1.0),), Status.WARN),
        (2.29, False, (_run(0.1, 1.0, (1.0, 5.9)),), Status.PASS),
        (1.5, False, (_run(0.1, 1.0, (0.2, 20.0)),), Status.PASS),
    ],
)
def test_too_high(after: float, diverged: bool, tried: tuple[RateRun, ...], status: Status) -> None:
    verdict = _ask(_rehearsal(2.3, after, diverged=diverged), tried=tried)
    assert verdict.status is status, verdict
    if status in (Status.FAIL, Status.WARN):
        assert "too high" in verdict.summary
        assert verdict.remedies[0].code is not None


@pytest.mark.parametrize(
    ("after", "ratio", "gain", "pretrained", "status"),
    [
        (2.2999, 1e-5, 1.0, "", Status.WARN),
        (2.2999, 9e-5, 1.0, "", Status.WARN),
        (2.2999, 1.1e-4, 1.0, "", Status.PASS),
        (2.294, 1e-5, 1.0, "", Status.PASS),  # 0.6 % of what the other does
        (2.296, 1e-5, 1.0, "", Status.WARN),
        (2.2999, 1e-5, 0.2, "", Status.PASS),
        (2.2999, 1e-5, 1.0, "its BatchNorm has counted 900 batches", Status.PASS),
    ],
)
def test_too_low(after: float, ratio: float, gain: float, pretrained: str, status: Status) -> None:
    verdict = _ask(_rehearsal(2.3, after, ratio=ratio), tried=(_run(100.0, gain),), pretrained=pretrained)
    assert verdict.status is status, verdict
    if status is Status.WARN:
        assert "too low" in verdict.summary


@pytest.mark.parametrize(
    ("gain", "status"), [(0.9, Status.SKIP), (0.4, Status.FAIL)]
)  # the lower rate's is 1.0: half of it is the limit
def test_a_rate_that_trains_with_clipped_gradients_is_left_alone(gain: float, status: Status) -> None:
    clipped = Control(
        kind="clipped", optimizer="SGD(lr=0.1), gradient clipped to 0.25", losses=(2.3, 1.0), before=_level(2.3),
        after=_level(2.3 - gain), first=None, last=None,
    )  # fmt: skip
    controls = Controls(doubt="diverged", runs=(clipped,))
    run, tried = _rehearsal(2.3, 9.0, diverged=True), (_run(0.1, 1.0),)
    assert _ask(run, controls, tried=tried, clips=True).status is status
    assert _ask(run, controls, tried=tried).status is Status.FAIL


@pytest.mark.parametrize(
    ("momentum", "betas", "status"),
    [
        (0.9, None, Status.PASS),
        (0.99, None, Status.PASS),
        (0.995, None, Status.WARN),
        (1.0, None, Status.FAIL),
        (None, (0.9, 0.999), Status.PASS),
        (None, (0.9, 0.9), Status.PASS),
        (None, (0.0, 0.9), Status.PASS),
        (None, (0.999, 0.9), Status.FAIL),
    ],
)
def test_momentum_and_betas(momentum: float | None, betas: tuple[float, float] | None, status: Status) -> None:
    assert _ask(momentum=momentum, betas=betas).status is status


def test_a_test_that_never_fell_names_no_range() -> None:
    flat = tuple(2.3 + n for n in NOISE[:29])
    verdict = _ask(losses=flat, smooth=(2.3,) * 29, ended=False)
    assert verdict.status is Status.PASS
    assert "search_low" not in verdict.numbers
    assert "does not blow up" in verdict.measured


@pytest.mark.parametrize(
    ("lead", "status", "near"),
    [
        ((1.0, 20.0), Status.WARN, False),
        ((1.0, 7.5), Status.WARN, True),
        ((1.0, 5.0), Status.PASS, True),
        ((1.0, 3.0), Status.PASS, False),
        ((0.52, 20.0), Status.WARN, True),
        ((0.48, 20.0), Status.PASS, True),
    ],
)
def test_a_lead_near_its_limits_says_so(lead: tuple[float, float], status: Status, near: bool) -> None:
    verdict = _ask(_rehearsal(2.3, 2.3), tried=(_run(0.1, 1.0, lead),))
    assert (verdict.status, bool(verdict.near)) == (status, near), verdict.near


@pytest.mark.parametrize(
    ("ratio", "status", "near"),
    [(1e-5, Status.WARN, False), (9.5e-5, Status.WARN, True), (1.05e-4, Status.PASS, True), (2e-4, Status.PASS, False)],
)
def test_an_update_near_standstill_says_so(ratio: float, status: Status, near: bool) -> None:
    verdict = _ask(_rehearsal(2.3, 2.3, ratio=ratio), tried=(_run(100.0, 1.0),))
    assert (verdict.status, bool(verdict.near)) == (status, near), verdict.near


def test_the_rates_found_have_a_spread_and_the_set_ups_own_has_none() -> None:
    verdict = _ask()
    assert verdict.near == ""
    assert verdict.spread["diverges"] == 0.5 * verdict.numbers["diverges"]
    assert "rate" not in verdict.spread
