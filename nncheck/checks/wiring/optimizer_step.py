"""The training step does not train: no backward pass, no step, another optimizer, or the wrong sign.

What it does
    Calls the set-up's own `train_step` a few times as it is written, and looks whether it goes back from the loss, whether an
    optimizer steps and whether the weights change, whether it goes down the loss and not up, and in which order schedule and
    optimizer step.
Why it matters
    A step that is missing, indented one level too far or called on another optimizer gives no error: the loss is printed
    every time and stays where it is. With the sign turned around it grows.
How to fix
    In every training step: `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, then `scheduler.step()`, with the
    optimizer that holds this model's parameters, on the loss itself and not on its negative.
Known limits
    Only with a `train_step`; 8 calls on parts of batches, up to 32 where it steps seldom. The sign is judged where a
    single loss function of torch's is compared with the batch's target.
Source
    PyTorch, "Optimizing model parameters" (the training loop).
"""

from nncheck.checks.wiring._steps import NOT_GIVEN, any_of, of_kind, own_steps, ratio
from nncheck.probes.training_loop import TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Losses that are 0 at best: going up them is never meant for the model's own target.
BOUNDED = {"cross-entropy", "nll", "bce", "bce-with-logits", "mse", "l1", "smooth-l1", "huber", "multi-margin"}
# The number that backward starts from against the loss's own value: float32 rounding of one sign change.
EQUAL = 1e-4
# Losses of so many earlier calls still held tell a list that grows from the last value that is kept to be shown.
HELD = 4


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("optimizer-coverage", "zero-grad"))
def optimizer_step(loop: TrainingLoop) -> Verdict:
    """Judge whether and how the step steps."""
    if not loop.given:
        return skipped(NOT_GIVEN)
    place = _place(loop)
    if loop.failure:
        return failed(
            f"train_step fails: {loop.failure}",
            expected="train_step runs again and again",
            summary="the training step raises an error",
            places=place,
            causes=("see the error's own words",),
            remedies=(Remedy(text="run train_step twice in a row and mend what it says"),),
        )
    if not loop.calls:
        return skipped("there are too few samples for a few steps")
    return _missing(loop, place) or _sign(loop) or _order(loop) or _held(loop, place) or _fine(loop)


def _place(loop: TrainingLoop) -> tuple[Place, ...]:
    """Where the step is written; of a script's loop, where it goes back."""
    if loop.place is not None and loop.place.file is None:
        backward = [event.place for call in loop.calls for event in call.events if event.kind == "backward"]
        return tuple(backward[:1]) or (loop.place,)
    return () if loop.place is None else (loop.place,)


def _fine(loop: TrainingLoop) -> Verdict:
    steps = sum(len(of_kind(call, "step", "other-step")) for call in loop.calls)
    return passed(
        f"{steps} optimizer steps in {len(loop.calls)} calls of train_step, and the weights changed",
        numbers={"steps": float(steps), "calls": float(len(loop.calls))},
    )


def _missing(loop: TrainingLoop, place: tuple[Place, ...]) -> Verdict | None:
    if loop.moved or not any(call.rate > 0 for call in loop.calls):
        return None
    calls = len(loop.calls)
    steps = own_steps(loop)
    if len(steps) > 1 and all(step.value == 0 and step.summed > 0 for step in steps[1:]):
        return skipped("gradients are cleared before the optimizer steps: zero-grad says where")
    if not any_of(loop, "backward", "gradient"):
        said, why, do, code = (
            "there is no backward pass",
            "`loss.backward()` is missing",
            "go back from the loss before the step",
            "loss.backward()",
        )
    elif any_of(loop, "scaled-step") and not any_of(loop, "step", "other-step"):
        said, why, do, code = (
            "the gradient scaler skips every step",
            "the gradients hold Inf or NaN under this scale, in every step",
            "call scaler.update() after scaler.step(), and look where the gradients become infinite",
            "scaler.update()",
        )
    elif not any_of(loop, "step", "other-step"):
        said, why, do, code = (
            "no optimizer steps",
            "`optimizer.step()` is missing, or under a condition that never holds",
            "step after the backward pass",
            "optimizer.step()",
        )
    elif not steps and not any_of(loop, "step"):
        said, why, do, code = (
            "another optimizer than the set-up's steps",
            "the optimizer that steps holds the parameters of another model, or none of this one's",
            f"step the {loop.optimizer} that holds this model's parameters",
            "optimizer.step()",
        )
    else:
        said, why, do, code = (
            "the optimizer's steps change nothing",
            "the gradients are 0 or missing at the step, or the optimizer holds other parameters",
            "check the order of zero_grad(), backward() and step(), and what the optimizer was given",
            "optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
        )
    return failed(
        f"after {calls} calls of train_step no weight has changed: {said}",
        expected="weights that change",
        summary=f"the training step does not train: {said}",
        numbers={"calls": float(calls)},
        places=place,
        causes=(why,),
        remedies=(Remedy(text=do, code=code),),
        follows=("zero-grad",) if steps else (),
    )


def _sign(loop: TrainingLoop) -> Verdict | None:
    """Up the loss instead of down: from its negative, or with an optimizer that maximizes."""
    ratios = [ratio(call) for call in loop.calls if len(call.losses) == 1 and call.losses[0].kind in BOUNDED]
    known = [r for r in ratios if r is not None]
    if len(known) < 2 or len(known) < len(loop.calls):
        return None
    sign = -1.0 if loop.maximizes else 1.0
    if not all(any(abs(sign * r * k + 1) < EQUAL * k for k in range(1, 33)) for r in known):
        return None
    first = loop.calls[0]
    back = next(event for event in first.events if event.kind == "backward")
    return failed(
        f"the {first.losses[0].kind} loss is {first.losses[0].value:.4g}, and the step "
        + ("goes up it (maximize=True)" if loop.maximizes else f"goes back from {back.value:.4g}: its negative"),
        expected="steps down the loss",
        summary="the training step makes the loss larger: its sign is turned around",
        numbers={"ratio": known[0]},
        places=(back.place,),
        causes=("a minus before the loss, or `maximize=True`, where the loss is one to minimize",),
        remedies=(Remedy(text="go back from the loss itself", code="loss.backward()"),),
    )


def _order(loop: TrainingLoop) -> Verdict | None:
    events = [event for call in loop.calls for event in call.events]
    kinds = [event.kind for event in events]
    if "schedule" not in kinds or not {"step", "other-step"} & set(kinds):
        return None
    schedule = kinds.index("schedule")
    if {"step", "other-step", "scaled-step"} & set(kinds[:schedule]):
        return None
    return warned(
        f"`{loop.scheduler or 'scheduler'}.step()` is called before the first `optimizer.step()`",
        expected="the optimizer steps first, then the schedule",
        summary="the schedule steps before the optimizer: its first rate is skipped",
        places=(events[schedule].place,),
        causes=("the two calls stand in the order of PyTorch before 1.1",),
        remedies=(Remedy(text="step the schedule last", code="optimizer.step()\nscheduler.step()"),),
    )


def _held(loop: TrainingLoop, place: tuple[Place, ...]) -> Verdict | None:
    if loop.kept < HELD:
        return None
    return warned(
        f"after {len(loop.calls)} calls, {loop.kept} losses of earlier calls are still held with their graphs",
        expected="numbers are kept, not tensors with a graph",
        summary="the training step keeps every loss with its graph: memory grows",
        numbers={"kept": float(loop.kept)},
        places=place,
        causes=("losses are collected as tensors",),
        remedies=(Remedy(text="collect the number", code="losses.append(loss.item())"),),
    )
