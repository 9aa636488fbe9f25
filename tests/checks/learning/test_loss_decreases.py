"""loss-decreases on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.loss_decreases import BOTTOMLESS, loss_decreases
from nncheck.probes.controls import Control, Controls
from nncheck.probes.decay_run import DecayRun
from nncheck.verdict import Curve, Status, Verdict
from tests.rehearsals import GOAL, descent, falling, level, levels, moves, overfit, rehearsal

NO_DOUBT = Controls(doubt="", runs=())
NO_DECAY = DecayRun(
    decay=0.0, penalty=0.0, coupled=True, optimizer="", losses=(), share=math.nan, without=0.04, fit=False
)


def _control(before: float = 2.3, after: float = 1.0, *, kind: Any = "adam", spread: float = 0.12) -> Control:
    return Control(
        kind=kind, optimizer="Adam(lr=0.001)", losses=falling(before, after), before=level(before),
        after=level(after, spread), first=None, last=None,
    )  # fmt: skip


def _judge(controls: Controls = NO_DOUBT, decay: DecayRun = NO_DECAY, batch: Any = None, **changes: Any) -> Verdict:
    return loss_decreases(rehearsal(**changes), controls, decay, batch or overfit())


def _flat(*runs: Control, **changes: Any) -> Verdict:
    known = {"losses": falling(2.3, 2.3), "seen": levels(2.3, 2.299), **changes}
    return _judge(Controls(doubt="no certain fall", runs=runs), **known)


def test_a_fall_passes_and_is_drawn() -> None:
    verdict = _judge()
    assert verdict.status is Status.PASS
    assert "from 2.3 to 1" in verdict.measured
    assert verdict.numbers["realised_over_predicted"] == pytest.approx(1.0)
    assert isinstance(verdict.exhibits[0], Curve)


def test_a_loss_that_falls_without_end_fails() -> None:
    unknown = overfit(goal=dataclasses.replace(GOAL, exact=False, floor=-math.inf))
    seen = levels(2300.0, -2299.0 * BOTTOMLESS)
    verdict = _judge(batch=unknown, losses=falling(2300.0, -1e10), seen=levels(2300.0, -2301.0 * BOTTOMLESS))
    assert verdict.status is Status.FAIL
    assert "falls without end" in verdict.summary
    assert _judge(batch=unknown, losses=falling(2300.0, -1e10), seen=seen).status is Status.PASS
    for first in (0.01, -0.01):  # a critic's loss starts at 0 and falls by much
        assert (
            _judge(batch=unknown, losses=falling(first, -1e5), seen=levels(first, -0.99 * BOTTOMLESS)).status
            is Status.PASS
        )


def test_updates_that_go_uphill_as_predicted_fail_and_nothing_is_their_root() -> None:
    uphill = tuple(descent(i, -0.03, -0.03) for i in (0, 1, 10))
    changes: dict[str, Any] = {"seen": levels(2.3, 2.6), "losses": falling(2.3, 2.6)}
    verdict = _judge(descents=uphill, **changes)
    assert (verdict.status, verdict.follows) == (Status.FAIL, ())
    assert "uphill" in verdict.summary
    overshoots = tuple(descent(i, 0.03, -0.03) for i in (0, 1, 10))
    assert _judge(descents=overshoots, **changes).status is Status.PASS
    later = (descent(0, 0.03, 0.03), *uphill[1:])  # momentum, or decay
    assert _judge(descents=later, **changes).status is Status.PASS
    noisy = tuple(descent(i, -0.03, -0.03, again=0.02) for i in (0, 1))
    assert _judge(descents=noisy, **changes).status is Status.PASS
    assert _judge(descents=uphill, moves=(moves(decay=1.0),), **changes).status is Status.PASS
    assert _judge(descents=uphill).status is Status.PASS  # the loss fell all the same


@pytest.mark.parametrize(
    ("share", "fit", "status"),
    [
        (0.96, False, Status.FAIL),
        (0.3, False, Status.WARN),
        (0.1, False, Status.WARN),
        (0.08, False, Status.PASS),
        (0.04, True, Status.PASS),
    ],
)
def test_a_decay_under_which_one_batch_cannot_be_learned(share: float, fit: bool, status: Status) -> None:
    losses = falling(2.3, 2.3 * share)
    run = DecayRun(
        decay=1.0,
        penalty=12.0,
        coupled=True,
        optimizer="Adam(lr=0.001)",
        losses=losses,
        share=share,
        without=0.04,
        fit=fit,
    )
    verdict = _judge(decay=run)
    assert verdict.status is status
    if status is not Status.PASS:
        assert verdict.remedies[0].code == "weight_decay=0.01"
        assert verdict.follows == ()


def test_a_loss_below_its_floor_and_a_turned_sign_follow_what_names_them_better() -> None:
    below = _judge(seen=levels(2.3, -0.2))
    assert (below.status, below.follows) == (Status.FAIL, ("label-range", "loss-at-init", "overfit-batch"))
    assert _judge(seen=levels(2.3, -0.01)).status is Status.PASS
    unknown = overfit(goal=dataclasses.replace(GOAL, exact=False, kind=""))
    assert _judge(batch=unknown, seen=levels(2.3, -5.0)).status is Status.PASS
    scores = overfit(goal=dataclasses.replace(GOAL, exact=False, kind="nll"))
    assert _judge(batch=scores, seen=levels(0.0, -5.0)).status is Status.FAIL
    turned = _judge(batch=overfit(turned=True))
    assert (turned.status, turned.follows) == (Status.FAIL, ("overfit-batch",))


def test_no_fall_is_told_only_where_a_control_falls() -> None:
    verdict = _flat(_control())
    assert verdict.status is Status.WARN
    assert "learning-rate" in verdict.follows
    assert _flat(_control(after=2.25)).status is Status.SKIP  # less than a tenth of what there is
    assert _flat(_control(after=1.0, before=1.0)).status is Status.SKIP
    assert _flat().status is Status.SKIP
    assert _flat(_control(after=math.nan)).status is Status.SKIP
    assert _flat(_control(after=1.9, spread=5.0)).status is Status.SKIP
    assert _flat(_control(), seen=levels(2.3, 2.2)).status is Status.SKIP  # a thirteenth of the control's fall: slow
    assert _flat(_control(), seen=levels(2.3, 2.28)).status is Status.WARN


def test_a_rising_loss_fails_unless_clipping_mends_it() -> None:
    changes: dict[str, Any] = {"losses": falling(2.3, 90.0), "seen": levels(2.3, 90.0), "diverged": True}
    adam, clipped = _control(), _control(kind="clipped")
    assert _judge(Controls(doubt="diverged", runs=(adam,)), **changes).status is Status.FAIL
    assert _judge(Controls(doubt="diverged", runs=(clipped, adam)), **changes).status is Status.SKIP
    broken = {**changes, "losses": (2.3, math.nan), "seen": levels(2.3, math.nan)}
    assert _judge(Controls(doubt="diverged", runs=(adam,)), **broken).status is Status.FAIL
    assert _judge(closure=True, **changes).status is Status.SKIP


def test_a_loss_that_starts_low_has_been_learned_before() -> None:
    assert _flat(_control(0.5, 0.1), seen=levels(0.5, 0.499)).status is Status.PASS
    assert _flat(_control(1.3, 0.1), seen=levels(1.3, 1.299)).status is Status.WARN


def test_the_same_optimizer_without_its_decay_names_the_decay() -> None:
    verdict = _flat(_control(kind="no decay"), _control())
    assert verdict.status is Status.FAIL
    assert "weight decay" in verdict.summary
    assert verdict.follows == ()


def test_without_a_loss_on_fixed_samples_nothing_is_said() -> None:
    nothing = dataclasses.replace(levels(1, 1), before=None, after=None)
    assert _judge(seen=nothing).status is Status.SKIP


@pytest.mark.parametrize(
    ("spread", "near"), [(0.12, False), (4.6, True)]
)  # half the range of the samples' falls: t = 900 and 4
def test_a_fall_that_is_barely_certain_says_so(spread: float, near: bool) -> None:
    seen = dataclasses.replace(levels(2.3, 1.0), after=level(1.0, spread))
    verdict = _judge(seen=seen)
    assert verdict.status is Status.PASS
    if near:
        assert 3 < verdict.numbers["t"] < 5
    assert bool(verdict.near) is near
    assert verdict.spread["t"] == 1.0
    assert verdict.spread["fall"] == pytest.approx(verdict.numbers["fall"] / verdict.numbers["t"])


def test_a_control_that_is_barely_ahead_says_so() -> None:
    assert _flat(_control(), seen=levels(2.3, 2.6)).near == ""
    near = _flat(_control(after=1.9, spread=1.25), seen=levels(2.3, 2.6))
    assert near.status in (Status.WARN, Status.FAIL)
    assert "Adam" in near.near


@pytest.mark.parametrize(("share", "near"), [(0.96, False), (0.55, True), (0.45, True), (0.3, False), (0.1, True)])
def test_a_decay_near_its_limits_says_so(share: float, near: bool) -> None:
    run = DecayRun(
        decay=1.0, penalty=12.0, coupled=True, optimizer="Adam(lr=0.001)", losses=falling(2.3, 2.3 * share), share=share,
        without=0.04, fit=False,
    )  # fmt: skip
    assert bool(_judge(decay=run).near) is near
