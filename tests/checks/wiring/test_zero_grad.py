"""zero-grad on calls built by hand."""

import pytest

from nncheck.checks.wiring.zero_grad import zero_grad
from nncheck.probes.training_loop import TrainingLoop
from nncheck.verdict import Status
from tests.step_calls import NO_STEP, backward, call, event, loop, step

USUAL = call(backward(), step())
STALE = call(backward(), step(3.0, stale=("a", "b")))
PARTLY = call(backward(), step(3.0, stale=("a",)))
OTHER_CLEARED = call(backward(), event("other-step", other=1, held=2), step())
OTHER_STALE = call(backward(), event("other-step", other=1, held=2, stale=("c", "d")), step())
OTHER_PARTLY = call(backward(), event("other-step", other=1, held=2, stale=("c",)), step())
OTHER_IDLE = call(backward(), event("other-step", other=1), step())
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
        (loop(OTHER_CLEARED, OTHER_CLEARED, OTHER_CLEARED), Status.PASS),
        (loop(OTHER_CLEARED, OTHER_STALE, OTHER_STALE), Status.FAIL),
        (loop(OTHER_CLEARED, OTHER_STALE, OTHER_CLEARED), Status.PASS),
        (loop(OTHER_CLEARED, OTHER_PARTLY, OTHER_PARTLY), Status.PASS),
        (loop(OTHER_IDLE, OTHER_IDLE, OTHER_IDLE), Status.PASS),
        (loop(TOO_EARLY, TOO_EARLY, TOO_EARLY), Status.FAIL),
        (loop(USUAL, TOO_EARLY, USUAL), Status.PASS),
        (loop(*[call(step(0.0, summed=0.0))] * 3), Status.PASS),
        (loop(*[call(backward(), step(3.0, stale=("a", "b"), closure=True))] * 3), Status.SKIP),
    ],
)
def test_zero_grad(found: TrainingLoop, status: Status) -> None:
    assert zero_grad(found).status is status
