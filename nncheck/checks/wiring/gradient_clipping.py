"""Gradients are clipped where it has no effect, or to nothing.

What it does
    Calls the set-up's own `train_step` a few times as it is written, and looks at each clipping: whether there is a gradient
    to clip, whether a step uses what was clipped, whether gradients are unscaled first, and how much is left of them.
Why it matters
    Clipping before the backward pass or after the step does nothing, without a word. With a gradient scaler the gradients
    are some 65536 times too large until `scaler.unscale_`: clipped before, hardly anything is left of them.
How to fix
    Clip between `loss.backward()` and `optimizer.step()`; with a gradient scaler call `scaler.unscale_(optimizer)` first.
    Choose `max_norm` near the norms that are seen: a tenth of them clips softly, a thousandth stops the training.
Known limits
    Only with a `train_step`, and only torch's `clip_grad_norm_` and `clip_grad_value_`. A scaler that is off on this machine is
    judged by the order of its calls.
Source
    PyTorch, "Automatic mixed precision examples: gradient clipping"; Google, "Deep learning tuning playbook" (clipping).
"""

from nncheck.checks.wiring._steps import NOT_GIVEN, of_kind
from nncheck.observe.step_events import Event
from nncheck.probes.training_loop import StepCall, TrainingLoop
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped, warned

# Clipping to 1.0 at norms of 5 to 20 is usual practice, and norms of a hundred occur in the first steps. A thousandth of the
# gradient in every step is the size of the mistakes: a scale of 65536, a max_norm that was meant as a learning rate.
NOTHING_LEFT = 1e-3


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("optimizer-step", "zero-grad"))
def gradient_clipping(loop: TrainingLoop) -> Verdict:
    """Judge each clipping by what comes before and after it."""
    if not loop.given:
        return skipped(NOT_GIVEN)
    clipping = [call for call in loop.calls if of_kind(call, "clip")]
    if not clipping:
        return skipped("train_step does not clip gradients")
    clips = [call.events[index] for call in clipping for index in of_kind(call, "clip")]
    stepping = [call for call in clipping if of_kind(call, "step", "other-step", "scaled-step")]
    if all(clip.empty for clip in clips):
        return _no_effect(clips[0], "there is no gradient when it is clipped", "clipping stands before `backward()`")
    if stepping and (all(_after(call) for call in stepping) or all(_each_after(call) for call in clipping)):
        return _no_effect(clips[0], "no step uses what was clipped", "clipping stands after `optimizer.step()`")
    if any(_still_scaled(call) for call in clipping):
        return _scaled(next(call for call in clipping if _still_scaled(call)))
    left = [clip.limit / clip.value for clip in clips if clip.value > 0]
    if left and max(left) < NOTHING_LEFT:
        return warned(
            f"gradients of norm {clips[0].value:.3g} are clipped to {clips[0].limit:.3g}: at most {max(left):.1g} of them is "
            f"left in each of {len(left)} clippings",
            expected=f"more than {NOTHING_LEFT:g} of the gradient is left in some steps",
            summary=f"clipping to {clips[0].limit:g} leaves next to nothing of the gradients",
            numbers={"norm": clips[0].value, "limit": clips[0].limit, "left": max(left)},
            places=(clips[0].place,),
            causes=("`max_norm` is far below the norms of this model, or the loss is a sum where a mean was meant",),
            remedies=(Remedy(text=f"clip near the usual norm: max_norm = {clips[0].value:.1g}"),),
        )
    share = sum(part < 1 for part in left) / len(left) if left else 0.0
    return passed(
        f"{share:.0%} of {len(clips)} clippings made the gradient smaller; its norm was {clips[0].value:.3g} at first",
        numbers={"share": share, "norm": clips[0].value},
    )


def _after(call: StepCall) -> bool:
    """Whether no step comes after the last clipping of a call, or it comes only after another backward pass."""
    last = of_kind(call, "clip")[-1]
    first = of_kind(call, "clip")[0]
    steps = of_kind(call, "step", "other-step", "scaled-step")
    return all(step < first for step in steps) and bool(steps) and last >= first


def _each_after(call: StepCall) -> bool:
    """Whether each of several clippings in a call comes right after a step, and no step before the next backward pass."""
    backs, steps = ("backward", "gradient"), ("step", "other-step", "scaled-step")
    for clip in of_kind(call, "clip"):
        before = [event.kind for event in call.events[:clip] if event.kind in (*backs, *steps)]
        behind = [event.kind for event in call.events[clip:] if event.kind in (*backs, *steps)]
        if not before or before[-1] not in steps or (behind and behind[0] not in backs):
            return False
    return True


def _still_scaled(call: StepCall) -> bool:
    """Whether a clipping stands between a scaled backward pass and its step without `unscale_` in between."""
    scales, clips = of_kind(call, "scale"), of_kind(call, "clip")
    steps = of_kind(call, "scaled-step")
    if not scales or not steps:
        return False
    return any(
        scales[0] < clip < steps[-1] and not any(index < clip for index in of_kind(call, "unscale")) for clip in clips
    )


def _no_effect(clip: Event, said: str, why: str) -> Verdict:
    return failed(
        f"clipping has no effect: {said}",
        expected="clipping between `backward()` and `step()`",
        summary=f"gradient clipping does nothing: {why.removeprefix('clipping ')}",
        places=(clip.place,),
        causes=(why,),
        remedies=(
            Remedy(
                text="clip between the two",
                code="loss.backward()\ntorch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)\noptimizer.step()",
            ),
        ),
    )


def _scaled(call: StepCall) -> Verdict:
    clip = call.events[of_kind(call, "clip")[0]]
    scale = next(event.value for event in call.events if event.kind == "scale")
    on = (
        f"they are {scale:g} times too large then"
        if scale > 1
        else "where the scaler is on, they are 65536 times too large"
    )
    return failed(
        f"gradients are clipped before `scaler.unscale_(optimizer)`: {on}",
        expected="`scaler.unscale_(optimizer)` before clipping",
        summary="gradients are clipped while they are still scaled",
        numbers={"scale": scale},
        places=(clip.place,),
        causes=("`scaler.unscale_(optimizer)` is missing before the clipping",),
        remedies=(Remedy(text="unscale first", code="scaler.unscale_(optimizer)"),),
    )
