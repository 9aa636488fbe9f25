"""gradient-accumulation on calls built by hand."""

import dataclasses

import pytest

from nncheck.checks.wiring.gradient_accumulation import gradient_accumulation
from nncheck.observe.step_events import Event
from nncheck.probes.rounds_seen import Round, RoundsSeen
from nncheck.probes.training_loop import SeenLoss, TrainingLoop
from nncheck.verdict import Status
from tests.step_calls import HERE, NO_STEP, backward, call, loop, step

SUM = step(2.0, summed=2.0, backwards=2, last_apart=0.9)


def _every_second(start: float, end: Event, reduction: str = "mean") -> TrainingLoop:
    calls = [call(backward(start), reduction=reduction), call(backward(start), end, reduction=reduction)]
    return loop(*calls, *calls)


def _parts(*starts: float, rows: int = 4) -> TrainingLoop:
    losses = tuple(
        SeenLoss(kind="cross-entropy", value=2.0, reduction="mean", rows=rows, of_batch=True) for _ in starts
    )
    one = call(*(backward(s) for s in starts), SUM)
    return loop(*[dataclasses.replace(one, losses=losses)] * 2)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (NO_STEP, Status.SKIP),
        (loop(), Status.SKIP),
        (loop(*[call(backward(), step())] * 3), Status.SKIP),
        (_every_second(1.0, SUM), Status.PASS),
        (_every_second(2.0, SUM), Status.WARN),
        (_every_second(2.0, SUM, reduction="sum"), Status.PASS),
        (_every_second(2.0, dataclasses.replace(SUM, value=1.0)), Status.PASS),
        (_every_second(2.001, SUM), Status.PASS),
        (_every_second(1.0, dataclasses.replace(SUM, last_apart=0.0)), Status.FAIL),
        (_parts(2.0, 2.0), Status.WARN),
        (_parts(1.0, 1.0), Status.SKIP),
        (_parts(2.0, 2.0, rows=8), Status.SKIP),
    ],
)
def test_gradient_accumulation(found: TrainingLoop, status: Status) -> None:
    assert gradient_accumulation(found, None).status is status


def _rounds(*rounds: Round, head: str = "for micro_step in range(accum_steps):") -> RoundsSeen:
    return RoundsSeen(rounds=rounds, backward=HERE, step=HERE, loops=(head,))


ONE = Round(backwards=1, alike=True, cleared=1, means=1, kept=1.0)
LAST_ALONE = Round(backwards=4, alike=True, cleared=4, means=4, kept=1.0)
SUMMED = Round(backwards=4, alike=True, cleared=1, means=4, kept=1.0)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (_rounds(), Status.SKIP),
        (_rounds(ONE, ONE), Status.SKIP),
        (_rounds(LAST_ALONE), Status.SKIP),
        (_rounds(LAST_ALONE, LAST_ALONE), Status.FAIL),
        (_rounds(LAST_ALONE, LAST_ALONE, ONE), Status.SKIP),
        (_rounds(LAST_ALONE, dataclasses.replace(LAST_ALONE, cleared=3)), Status.SKIP),
        (_rounds(LAST_ALONE, dataclasses.replace(LAST_ALONE, alike=False)), Status.SKIP),
        (_rounds(SUMMED, SUMMED), Status.WARN),
        (_rounds(SUMMED, SUMMED, head="for task in tasks:"), Status.SKIP),
        (_rounds(SUMMED, dataclasses.replace(SUMMED, means=3)), Status.SKIP),
        (_rounds(SUMMED, dataclasses.replace(SUMMED, kept=0.25)), Status.SKIP),
        (_rounds(SUMMED, dataclasses.replace(SUMMED, kept=0.76)), Status.WARN),
        (_rounds(SUMMED, dataclasses.replace(SUMMED, cleared=0)), Status.SKIP),
    ],
)
def test_rounds_of_a_scripts_own_loop(seen: RoundsSeen, status: Status) -> None:
    assert gradient_accumulation(None, seen).status is status
