"""Gradients are not cleared between steps, or are cleared before they are used.

What it does
    Calls the set-up's own `train_step` a few times as it is written and looks at every `.grad` before each backward pass and
    at each step of the optimizer: between two steps there must be a moment at which it is cleared, and at the step it must
    still be there.
Why it matters
    Without `zero_grad()` every step uses the sum of all gradients so far: it looks like a learning rate that is too large
    and grows. Cleared between `backward()` and `step()`, nothing is learned at all.
How to fix
    Call `optimizer.zero_grad()` once for each `optimizer.step()`: before the backward pass, or right after the step.
Known limits
    Only with a `train_step`. Optimizers that are given a closure are left out.
Source
    Karpathy, "most common neural net mistakes" (2018), number 3.
"""

from nncheck.checks.wiring._steps import NOT_GIVEN, own_steps
from nncheck.observe.step_events import Event
from nncheck.probes.training_loop import TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Curve, Line, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Two steps tell a habit from an exception; the first step has nothing before it.
FEWEST = 2


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"))
def zero_grad(loop: TrainingLoop) -> Verdict:
    """Judge the gradients that each step used."""
    if not loop.given:
        return skipped(NOT_GIVEN)
    closure = _closure(loop)
    if closure is not None:
        return closure
    steps = own_steps(loop)
    if len(steps) < FEWEST + 1:
        return skipped(f"train_step called {loop.optimizer}.step() {len(steps)} times in {len(loop.calls)} calls")
    if all(step.value == 0 and step.summed > 0 for step in steps[1:]):
        return _too_early(loop, steps[1].place, steps[1].summed)
    later = steps[1:]
    stale = [step for step in later if step.stale]
    if len(stale) == len(later):
        names = stale[-1].stale
        curve = Curve(
            title="Gradient norm at each step",
            x_label="step",
            y_label="norm",
            lines=(Line(label="used", x=tuple(map(float, range(len(steps)))), y=tuple(s.value for s in steps)),),
        )
        say = failed if len(names) == stale[-1].held else warned
        return say(
            f"at {len(stale)} of {len(later)} steps, the gradients of {len(names)} tensors still held what earlier steps had "
            f"used; the norm went from {steps[0].value:.3g} to {steps[-1].value:.3g}",
            expected="gradients are cleared once between two steps",
            summary="gradients are never cleared: every step uses the sum of all before it"
            if say is failed
            else f"the gradients of {', '.join(names[:3])} are never cleared",
            numbers={"first": steps[0].value, "last": steps[-1].value, "tensors": float(len(names))},
            places=((loop.place,) if loop.place else ()) + tuple(Place(name=name) for name in names[:3]),
            causes=(
                "`zero_grad()` is missing in the training step, or clears another optimizer's or model's gradients",
            ),
            remedies=(Remedy(text="clear them before the backward pass", code="optimizer.zero_grad()"),),
            exhibits=(curve,),
        )
    others = None if loop.others_judged else _others(loop)
    if others is not None:
        return others
    return passed(
        f"at each of {len(steps)} steps the gradient was that of the backward passes since the last one",
        numbers={"steps": float(len(steps))},
    )


def _others(loop: TrainingLoop) -> Verdict | None:
    """Another optimizer of the same training step whose gradients are never cleared, such as a critic's."""
    events = [event for call in loop.calls for event in call.events if event.kind == "other-step"]
    for number in sorted({event.other for event in events}):
        steps = [event for event in events if event.other == number]
        later = steps[1:]
        if len(later) < FEWEST or not all(step.held and len(step.stale) == step.held for step in later):
            continue
        names = later[-1].stale
        return failed(
            f"at all {len(later)} later steps of the training step's other optimizer, the gradients of its {len(names)} "
            "tensors still held what earlier steps had used",
            expected="gradients are cleared once between two steps of each optimizer",
            summary=f"the other optimizer's gradients are never cleared ({', '.join(names[:2])})",
            numbers={"tensors": float(len(names))},
            places=(steps[0].place, *(Place(name=name) for name in names[:3])),
            causes=(
                "its own `zero_grad()` is missing: what it has used, and what the other losses' backward passes leave in its "
                "parameters, is added up",
            ),
            remedies=(Remedy(text="clear them before its backward pass", code="other_optimizer.zero_grad()"),),
        )
    return None


def _too_early(loop: TrainingLoop, place: Place, norm: float) -> Verdict:
    return failed(
        f"backward passes gave gradients of norm {norm:.3g}, but at every `step()` they are 0",
        expected="the gradient of the backward pass at `step()`",
        summary="gradients are cleared before the optimizer uses them: nothing is learned",
        numbers={"norm": norm},
        places=(place,),
        causes=("`zero_grad()` stands between `backward()` and `step()`, or `step()` before `backward()`",),
        remedies=(
            Remedy(
                text="put the three in this order",
                code="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
            ),
        ),
    )


def _closure(loop: TrainingLoop) -> Verdict | None:
    """An optimizer that calls a closure takes the gradient at several points: each call of it has to begin with none."""
    inside: list[Event] = []
    for call in loop.calls:
        begun = next((i for i, event in enumerate(call.events) if event.kind == "step" and event.closure), None)
        # The first of a call may come after a step whose gradients the loop clears only later.
        inside += [] if begun is None else [event for event in call.events[begun + 1 :] if event.kind == "backward"][1:]
    if len(inside) < FEWEST:
        return None
    uncleared = sum(event.uncleared for event in inside)
    measured = (
        f"{uncleared} of {len(inside)} further backward passes within a step began with the gradients of the last one"
    )
    if uncleared < len(inside):
        return passed(measured, numbers={"uncleared": float(uncleared), "backwards": float(len(inside))})
    return failed(
        measured,
        expected="a closure that clears the gradients first",
        summary=f"the closure of {loop.optimizer} adds its gradients to those of its last call",
        numbers={"uncleared": float(uncleared), "backwards": float(len(inside))},
        places=(inside[0].place,),
        causes=("`zero_grad()` is called outside the closure, or not at all",),
        remedies=(Remedy(text="clear the gradients at the beginning of the closure", code="optimizer.zero_grad()"),),
    )
