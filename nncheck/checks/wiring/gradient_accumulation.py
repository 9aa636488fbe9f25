"""Accumulated gradients are not those of the large batch.

What it does
    Where the set-up's own `train_step` steps only every few calls, or goes back several times for one step, compares the
    gradient that the step uses with the sum and with the last of those backward passes, and the number that backward
    starts from with the loss.
Why it matters
    Not divided, the gradients of k small batches add up to k times the gradient of the large one: the learning rate is k
    times what it says. Cleared in every call, only the last of the k is used, and the work of the others is lost.
How to fix
    Divide the loss by the number of batches that are accumulated, and call `zero_grad()` only after a step.
Known limits
    Only with a `train_step`; accumulations of at most 10 calls or so. Losses that sum over samples are left out.
Source
    Hugging Face, "Fixing gradient accumulation" (2024).
"""

from itertools import pairwise

from nncheck.checks.wiring._steps import NOT_GIVEN, of_kind, own_steps, ratio, scale_of
from nncheck.probes.training_loop import StepCall, TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped, warned

# Float32 rounding of a few additions.
SAME = 1e-4
# A gradient that was divided afterwards is half the sum or less.
DIVIDED = 0.75


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("zero-grad", "optimizer-step"))
def gradient_accumulation(loop: TrainingLoop) -> Verdict:
    """Judge the gradient of each step against the backward passes it was made from."""
    if not loop.given:
        return skipped(NOT_GIVEN)
    every = _calls_a_step(loop)
    if every < 2:
        return _parts(loop) or skipped("train_step takes a step with every backward pass: nothing is accumulated")
    steps = [step for step in own_steps(loop) if step.backwards > 1]
    if not steps:
        return skipped("there were too few steps to judge the accumulation")
    if all(step.last_apart < SAME for step in steps):
        return failed(
            f"a step comes every {every} calls, but its gradient is that of the last backward pass alone",
            expected="the gradient of all backward passes since the last step",
            summary=f"of {every} batches only the last one counts: gradients are cleared in every call",
            numbers={"every": float(every)},
            places=(steps[0].place,),
            causes=("`zero_grad()` runs in every call, while `step()` runs in every few",),
            remedies=(Remedy(text="clear only after a step", code="optimizer.step()\noptimizer.zero_grad()"),),
        )
    if _undivided(loop.calls) and _whole(loop):
        return _too_large(loop, every, "calls")
    return passed(
        f"a step comes every {every} calls and uses the gradient of all of them",
        numbers={"every": float(every)},
    )


def _calls_a_step(loop: TrainingLoop) -> int:
    """The usual number of calls for one step."""
    marks = [index for index, call in enumerate(loop.calls) if of_kind(call, "step")]
    gaps = sorted(b - a for a, b in pairwise(marks))
    return gaps[len(gaps) // 2] if gaps else 0


def _whole(loop: TrainingLoop) -> bool:
    """Whether every step is given the sum itself, not divided after the backward passes; before clipping, if there is any."""
    for call in loop.calls:
        clipped = max((event.value for event in call.events if event.kind == "clip"), default=0.0)
        for step in (event for event in call.events if event.kind == "step"):
            if max(step.value, clipped) <= DIVIDED * step.summed:
                return False
    return True


def _undivided(calls: tuple[StepCall, ...]) -> bool:
    """Whether backward starts from the mean loss itself, call after call."""
    ratios = [ratio(call) for call in calls if call.losses and call.losses[0].reduction == "mean"]
    return len(ratios) == len(calls) and all(r is not None and abs(r - 1) < SAME for r in ratios)


def _parts(loop: TrainingLoop) -> Verdict | None:
    """A batch that is cut up inside one call: the parts' means add up to so many times the mean."""
    most = 0
    for call in loop.calls:
        starts = [event.value / scale_of(call) for event in call.events if event.kind == "backward"]
        losses = [loss for loss in call.losses if loss.reduction == "mean"]
        cut = len(starts) > 1 and len(losses) == len(starts) and len({loss.kind for loss in losses}) == 1
        if not cut or sum(loss.rows for loss in losses) != call.size or max(loss.rows for loss in losses) >= call.size:
            return None
        if any(abs(a - loss.value) > SAME * abs(loss.value) for a, loss in zip(starts, losses, strict=True)):
            return None
        most = max(most, len(starts))
    if not most or not _whole(loop):
        return None
    return _too_large(loop, most, "parts of a batch")


def _too_large(loop: TrainingLoop, every: int, what: str) -> Verdict:
    back = next(event for call in loop.calls for event in call.events if event.kind == "backward")
    return warned(
        f"the mean losses of {every} {what} are added up without being divided by {every}",
        expected=f"each loss divided by {every}",
        summary=f"accumulated gradients are {every} times those of the large batch",
        numbers={"every": float(every)},
        places=(back.place,),
        causes=(f"`loss.backward()` on the mean loss, {every} times for one step",),
        remedies=(Remedy(text="divide before going back", code=f"(loss / {every}).backward()"),),
    )
