"""Accumulated gradients are not those of the large batch.

What it does
    Where the set-up's own `train_step` steps only every few calls, or goes back several times for one step, compares the
    gradient that the step uses with the sum and with the last of those backward passes, and the number that backward
    starts from with the loss. A script's own loop is followed for a few steps as well: how many backward passes each is made
    from, and whether the gradients were cleared between them.
Why it matters
    Not divided, the gradients of k small batches add up to k times the gradient of the large one: the learning rate is k
    times what it says. Cleared in every call, only the last of the k is used, and the work of the others is lost.
How to fix
    Divide the loss by the number of batches that are accumulated, and call `zero_grad()` only after a step. If nothing is to be
    accumulated, put `step()` into the loop that calls `backward()`.
Known limits
    Only with a `train_step`; accumulations of at most 10 calls or so. Losses that sum over samples are left out. A script's inner
    loop over small batches is only judged for a missing division if it says that it accumulates.
Source
    Hugging Face, "Fixing gradient accumulation" (2024).
"""

import re
from itertools import pairwise

from nncheck.checks.wiring._steps import NOT_GIVEN, of_kind, own_steps, ratio, scale_of
from nncheck.probes.rounds_seen import Round, RoundsSeen
from nncheck.probes.training_loop import StepCall, TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Float32 rounding of a few additions.
SAME = 1e-4
# A gradient that was divided afterwards is half the sum or less.
DIVIDED = 0.75
# Two rounds tell a habit; a gradient scaler may leave out a step now and then.
HABIT = 2
# Interface: what a loop over small batches calls what it does. Sums over tasks or chunks of a sequence are meant as sums.
_ACCUMULATES = re.compile(r"accum|micro_?(step|batch)|grad_acc", re.IGNORECASE)


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("zero-grad", "optimizer-step"))
def gradient_accumulation(loop: TrainingLoop | None, seen: RoundsSeen | None) -> Verdict:
    """Judge the gradient of each step against the backward passes it was made from."""
    watched = None if seen is None else _watched(seen)
    if watched is not None:
        return watched
    if loop is None or not loop.given:
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
        return _too_large(_first_backward(loop), every, "calls")
    return passed(
        f"a step comes every {every} calls and uses the gradient of all of them",
        numbers={"every": float(every)},
    )


def _watched(seen: RoundsSeen) -> Verdict | None:
    """What a script's own loop did between its steps."""
    rounds = [one for one in seen.rounds if one.backwards > 1]
    if len(rounds) < HABIT or len(rounds) < len(seen.rounds) or not all(one.alike for one in rounds):
        return None
    places = tuple(place for place in (seen.backward, seen.step) if place is not None)
    every = max(one.backwards for one in rounds)
    if all(one.cleared == one.backwards for one in rounds):
        return failed(
            f"{len(rounds)} steps in a row were each made after {_many(rounds)} backward passes, and each of these passes began "
            "with cleared gradients",
            expected="a step after every backward pass, or the gradient of all of them",
            summary=f"of {every} batches only the last one counts: `step()` comes once, after gradients were cleared {every} times",
            numbers={"every": float(every)},
            places=places,
            causes=(
                "`step()` stands behind the loop over batches, or under a condition that seldom holds",
                "`zero_grad()` runs before every backward pass, while `step()` runs after every few",
            ),
            remedies=(
                Remedy(
                    text="step after every backward pass; or, to accumulate, clear only after a step",
                    code="loss.backward()\noptimizer.step()\noptimizer.zero_grad()",
                ),
            ),
        )
    says = any(_ACCUMULATES.search(head) for head in seen.loops)
    if says and all(one.cleared == 1 and one.means == one.backwards and one.kept > DIVIDED for one in rounds):
        return _too_large(seen.backward, every, "batches")
    return None


def _many(rounds: list[Round]) -> str:
    counts = sorted({one.backwards for one in rounds})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


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
    return _too_large(_first_backward(loop), most, "parts of a batch")


def _first_backward(loop: TrainingLoop) -> Place:
    return next(event.place for call in loop.calls for event in call.events if event.kind == "backward")


def _too_large(back: Place | None, every: int, what: str) -> Verdict:
    return warned(
        f"the mean losses of {every} {what} are added up without being divided by {every}",
        expected=f"each loss divided by {every}",
        summary=f"accumulated gradients are {every} times those of the large batch",
        numbers={"every": float(every)},
        places=() if back is None else (back,),
        causes=(f"`loss.backward()` on the mean loss, {every} times for one step",),
        remedies=(Remedy(text="divide before going back", code=f"(loss / {every}).backward()"),),
    )
