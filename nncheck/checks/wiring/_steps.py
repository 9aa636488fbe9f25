"""How the checks of a training step read its events."""

from nncheck.observe.step_events import Event
from nncheck.probes.training_loop import StepCall, TrainingLoop

NOT_GIVEN = "no train_step is given, so that the training loop itself is not seen"


def own_steps(loop: TrainingLoop) -> list[Event]:
    """Steps of the set-up's optimizer that were given no closure (which clears and fills the gradients inside)."""
    return [event for call in loop.calls for event in call.events if event.kind == "step" and not event.closure]


def of_kind(call: StepCall, *kinds: str) -> list[int]:
    """Where events of these kinds come in a call."""
    return [index for index, event in enumerate(call.events) if event.kind in kinds]


def any_of(loop: TrainingLoop, *kinds: str) -> bool:
    """Whether anything of these kinds happened at all."""
    return any(of_kind(call, *kinds) for call in loop.calls)


def scale_of(call: StepCall) -> float:
    """By how much a gradient scaler multiplied the loss of this call."""
    return next((event.value for event in call.events if event.kind == "scale"), 1.0)


def ratio(call: StepCall) -> float | None:
    """What backward was called on over the loss function's value, where there is one of each and nothing else."""
    backwards = [event for event in call.events if event.kind == "backward"]
    if len(backwards) != 1 or len(call.losses) != 1 or of_kind(call, "gradient") or not call.losses[0].of_batch:
        return None
    value = call.losses[0].value
    return backwards[0].value / scale_of(call) / value if value and abs(value) < float("inf") else None
