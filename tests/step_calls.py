"""Calls of a training step built by hand, for the checks that judge them."""

from typing import Any

from nncheck.observe.step_events import Event
from nncheck.probes.training_loop import SeenLoss, StepCall, TrainingLoop
from nncheck.verdict import Place

HERE = Place(name="train_step", file="model.py", line=9)


def event(kind: Any, **values: Any) -> Event:
    """One event."""
    return Event(kind=kind, place=HERE, **values)


def backward(value: float = 2.0) -> Event:
    """A backward pass from a number."""
    return event("backward", value=value)


def step(value: float = 1.0, **values: Any) -> Event:
    """A step of the set-up's optimizer that uses the gradient of one backward pass."""
    given = {"summed": value, "backwards": 1, "last_apart": 0.0, "held": 2} | values
    return event("step", value=value, **given)


def clip(value: float = 1.0, limit: float = 1.0) -> Event:
    """A clipping of a gradient norm to a limit."""
    return event("clip", value=value, limit=limit, empty=value == 0)


def call(*events: Event, loss: float | None = 2.0, kind: str = "cross-entropy", reduction: str = "mean") -> StepCall:
    """One call with one loss."""
    seen = () if loss is None else (SeenLoss(kind=kind, value=loss, reduction=reduction, rows=8, of_batch=True),)
    return StepCall(events=events, losses=seen, entered_training=True, size=8, forwards=1, rate=0.1)


def loop(*calls: StepCall, **changed: Any) -> TrainingLoop:
    """Some calls of a step that changed the weights."""
    given: dict[str, Any] = {"place": HERE, "moved": True, "optimizer": "SGD"} | changed
    return TrainingLoop(given=True, calls=calls, **given)


NO_STEP = TrainingLoop(given=False)
