"""gradient-clipping on calls built by hand: both sides of each limit."""

import pytest

from nncheck.checks.wiring.gradient_clipping import gradient_clipping
from nncheck.observe.step_events import Event
from nncheck.probes.training_loop import TrainingLoop
from nncheck.verdict import Status
from tests.step_calls import NO_STEP, backward, call, clip, event, loop, step

SCALE, UNSCALE, SCALED = event("scale", value=65536.0), event("unscale"), event("scaled-step")


def _each(*events: Event) -> TrainingLoop:
    return loop(call(*events), call(*events))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (NO_STEP, Status.SKIP),
        (_each(backward(), step()), Status.SKIP),
        (_each(backward(), clip(), step()), Status.PASS),
        (_each(clip(0.0), backward(), step()), Status.FAIL),
        (_each(backward(), step(), clip()), Status.FAIL),
        (_each(backward(), clip(), step(), clip()), Status.PASS),
        (_each(backward(), step(), clip(), backward(), step(), clip()), Status.FAIL),
        (_each(backward(), step(), clip(), backward(), clip(), step()), Status.PASS),
        (_each(backward(), clip(), backward(), step(), clip()), Status.PASS),
        (_each(backward(), step(), clip(), step()), Status.PASS),
        (loop(call(backward(), clip()), call(backward(), clip(), step())), Status.PASS),
        (_each(SCALE, backward(), clip(), SCALED, step()), Status.FAIL),
        (_each(SCALE, backward(), UNSCALE, clip(), SCALED, step()), Status.PASS),
        (_each(backward(), clip(1.0, 0.99e-3), step()), Status.WARN),
        (_each(backward(), clip(1.0, 1.01e-3), step()), Status.PASS),
        (_each(backward(), clip(20.0, 1.0), step()), Status.PASS),
        (_each(backward(), clip(1.0, float("inf")), step()), Status.PASS),
        (_each(backward(), clip(float("nan"), 1.0), step()), Status.PASS),
    ],
)
def test_gradient_clipping(found: TrainingLoop, status: Status) -> None:
    assert gradient_clipping(found).status is status
