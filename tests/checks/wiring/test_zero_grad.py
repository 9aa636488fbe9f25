"""zero-grad on calls built by hand."""

import pytest

from nncheck.checks.wiring.zero_grad import zero_grad
from nncheck.probes.training_loop import TrainingLoop
from nncheck.verdict import Status
from tests.step_calls import NO_STEP, backward, call, loop, step

USUAL = call(backward(), step())
STALE = call(backward(), step(3.0, stale=("a", "b")))
PARTLY = call(backward(), step(3.0, stale=("a",)))
TOO_EARLY = call(backward(), step(0.0, summed=1.0))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (NO_STEP, Status.SKIP),
        (loop(), Status.SKIP),
        (loop(USUAL, USUAL), Status.SKIP),
        (loop(USUAL, USUAL, USUAL), Status.PASS),
        (loop(USUAL, STALE, STALE), Status.FAIL),
        (loop(USUAL, STALE, USUAL), Status.PASS),
        (loop(USUAL, PARTLY, PARTLY), Status.WARN),
        (loop(TOO_EARLY, TOO_EARLY, TOO_EARLY), Status.FAIL),
        (loop(USUAL, TOO_EARLY, USUAL), Status.PASS),
        (loop(*[call(step(0.0, summed=0.0))] * 3), Status.PASS),
        (loop(*[call(backward(), step(3.0, stale=("a", "b"), closure=True))] * 3), Status.SKIP),
    ],
)
def test_zero_grad(found: TrainingLoop, status: Status) -> None:
    assert zero_grad(found).status is status
