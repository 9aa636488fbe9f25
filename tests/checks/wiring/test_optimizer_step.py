"""optimizer-step on calls built by hand."""

import pytest

from nncheck.checks.wiring.optimizer_step import optimizer_step
from nncheck.probes.training_loop import TrainingLoop
from nncheck.verdict import Status
from tests.step_calls import NO_STEP, backward, call, event, loop, step

USUAL = call(backward(), step())
UPHILL = call(backward(-2.0), step())
SCHEDULE = event("schedule")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (NO_STEP, Status.SKIP),
        (loop(), Status.SKIP),
        (loop(USUAL, failure="ValueError in call 2: boom"), Status.FAIL),
        (loop(USUAL, USUAL), Status.PASS),
        (loop(USUAL, USUAL, moved=False), Status.FAIL),
        (loop(call(backward()), moved=False), Status.FAIL),
        (loop(call(step(0.0)), moved=False), Status.FAIL),
        (loop(call(backward(), event("other-step")), moved=False), Status.FAIL),
        (loop(call(backward(), event("scaled-step")), moved=False), Status.FAIL),
        (loop(*[call(backward(), step(0.0, summed=1.0))] * 3, moved=False), Status.SKIP),
        (loop(UPHILL, UPHILL), Status.FAIL),
        (loop(UPHILL, UPHILL, maximizes=True), Status.PASS),
        (loop(USUAL, USUAL, maximizes=True), Status.FAIL),
        (loop(UPHILL, USUAL), Status.PASS),
        (loop(*[call(backward(-0.5), step())] * 2), Status.FAIL),
        (loop(*[call(backward(-0.6), step())] * 2), Status.PASS),
        (loop(*[call(backward(-2.0), step(), kind="kl-div")] * 2), Status.PASS),
        (loop(*[call(backward(-2.0), step(), loss=None)] * 2), Status.PASS),
        (loop(*[call(backward(-2.0), step(), loss=float("nan"))] * 2), Status.PASS),
        (loop(*[call(backward(), SCHEDULE, step())] * 2), Status.WARN),
        (loop(*[call(backward(), step(), SCHEDULE)] * 2), Status.PASS),
        (loop(USUAL, kept=4), Status.WARN),
        (loop(USUAL, kept=3), Status.PASS),
    ],
)
def test_optimizer_step(found: TrainingLoop, status: Status) -> None:
    assert optimizer_step(found).status is status
