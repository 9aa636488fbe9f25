"""The predictions collapse to one answer, or keep swinging, while the set-up trains.

What it does
    Asks the same samples nine times during a rehearsal of 60 updates, in eval mode, and compares the answers: how far they are
    apart between samples, how many change from look to look. Draws them. Where they become one answer, the same batches are
    given to Adam to see whether it keeps them apart.
Why it matters
    The loss is one number; the predictions show how it got there. A network whose answers have become the same for everything
    often still lowers its loss, and one whose answers swing has a rate that is too large.
How to fix
    Where two views of a sample are compared with each other, stop the gradient of one side (`detach`), or push different samples
    apart. Else divide the learning rate by 10, and look for units that died on the way.
Known limits
    That a hard task begins with the same answer for all is normal and never a finding by itself. Models that give nothing in eval
    mode are not looked at.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): visualize prediction dynamics. Collapse of siamese networks: Chen &
    He, "Exploring Simple Siamese Representation Learning" (2021).
"""

import math
from statistics import mean
from typing import Any

from nncheck.checks._near import Edge, near, uncertain
from nncheck.probes.controls import COLLAPSED, Control, Controls, ahead, collapsed
from nncheck.probes.overfit import OverfitBatch
from nncheck.probes.rehearsal import Look, Rehearsal
from nncheck.registry import check
from nncheck.verdict import Curve, Exhibit, Heatmap, Line, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Looks that are needed to speak of a course.
LOOKS = 5
# Outputs without targets of their own: they were apart by a tenth of their size and move together from look to look, to a fifth of
# it and of what it was. (In sound self-supervised set-ups they end at 0.78 or more of what it was, 0.22 or more of their size.)
APART, SAME = 0.1, 0.2
# A control falls and is ahead for certain, and keeps the answers ten times as far apart.
SURE, KEPT = 4.0, 10.0
# More than a third of the probability moves from look to look in all of the second half, and no less than in the first. (Sound
# set-ups whose loss does not fall move 0.02; the largest of those that learn is 0.31.)
SWINGS = 1 / 3
# What another seed changes, as a part of the figure (15 examples, 5 seeds each; median over them): how far answers are apart
# by 0.06, how far they move from look to look by 0.2.
SEEDS_APART, SEEDS_CHANGE = 0.06, 0.2


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "label-range",
        "class-balance",
        "loss-broadcast",
        "loss-at-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "batch-mixing",
        "gradient-check",
        "optimizer-coverage",
        "double-softmax",
        "loss-decreases",
        "update-ratio",
    ),
)
def prediction_dynamics(run: Rehearsal, controls: Controls, batch: OverfitBatch) -> Verdict:
    """Judge the course of the answers: collapsed, swinging, or just shown."""
    verdict = _judge(run, controls, batch)
    parts = {"spread_first": SEEDS_APART, "spread_last": SEEDS_APART, "change_last": SEEDS_CHANGE}
    return uncertain(verdict, {name: parts[name] * value for name, value in verdict.numbers.items()})


def _apart(name: str, value: float, limit: float, *, above: bool = True) -> Edge:
    return Edge(name=name, value=value, limit=limit, error=SEEDS_APART * value, above=above)


def _certain(run: Rehearsal, adam: Control) -> tuple[Edge, Edge]:
    """That Adam's loss falls, and is ahead."""
    return (
        Edge(name=f"the t of the fall with {adam.optimizer}", value=adam.fall[1], limit=SURE, error=1.0),
        Edge(name=f"the t of the lead of {adam.optimizer}", value=ahead(run, adam)[1], limit=SURE, error=1.0),
    )


def _judge(run: Rehearsal, controls: Controls, batch: OverfitBatch) -> Verdict:
    looks, wanted = run.looks, run.wanted
    if len(looks) < 2 or wanted is None:
        return skipped("the model gives no predictions to look at in eval mode")
    first, last = looks[0], looks[-1]
    measured = (
        f"over {last.update} updates the answers to {wanted.samples} samples go from {first.spread:.3g} to {last.spread:.3g} apart"
        + (f" (targets: {wanted.spread:.3g})" if wanted.spread is not None else "")
        + (f"; at the last look {last.flips:.0%} of the choices changed" if last.flips is not None else "")
    )
    details: dict[str, Any] = {
        "numbers": {
            "spread_first": first.spread,
            "spread_last": last.spread,
            "change_last": last.change if last.change is not None else math.nan,
        },
        "exhibits": _pictures(looks, wanted.kind),
    }
    if len(looks) < LOOKS or not all(math.isfinite(look.spread) for look in looks):
        return skipped(f"the run ended after {len(run.losses)} updates", measured=measured, **details)
    if wanted.spread is None:
        return _without_targets(run, measured, details)
    if collapsed(looks):
        return _collapse(run, controls, measured, details)
    late = [look.change or 0.0 for look in looks[-3:]]
    early = [look.change or 0.0 for look in looks[1:-3]]
    adam = controls.of("adam")
    swings = wanted.kind == "classes" and min(late) > SWINGS and mean(late) >= mean(early)
    said = ""
    if wanted.kind == "classes" and controls.doubt and adam is not None and mean(late) >= mean(early):
        moved = Edge(
            name="the part that moves from look to look", value=min(late), limit=SWINGS, error=SEEDS_CHANGE * min(late)
        )
        said = near(moved, *_certain(run, adam))
    if swings and controls.doubt and adam is not None and adam.fall[1] > SURE and ahead(run, adam)[1] > SURE:
        return warned(
            f"{measured}; {mean(late):.0%} of the probability moves from look to look, and {adam.optimizer} lowers the loss",
            expected="predictions that settle",
            summary=f"the predictions keep swinging: {mean(late):.0%} of the probability moves every ten updates",
            places=(batch.optimizer_place,) if batch.optimizer_place else (),
            causes=("the learning rate is too large",),
            remedies=(Remedy(text="divide the learning rate by 10"),),
            follows=("learning-rate", "overfit-batch", "lr-schedule"),
            near=said,
            **details,
        )
    return passed(measured, expected="answers that move apart and settle", near=said, **details)


def _without_targets(run: Rehearsal, measured: str, details: dict[str, Any]) -> Verdict:
    """Outputs that are compared with each other: the lowest loss of all is the same output for everything."""
    looks = run.looks
    most, last = max(looks, key=lambda look: look.spread), looks[-1]
    shrinks = all(later.spread < earlier.spread for earlier, later in zip(looks[-4:], looks[-3:], strict=False))
    falls = run.losses[-1] < run.losses[0]
    together = _apart("the last distance", last.spread, SAME * min(most.spread, last.scale), above=False)
    were = _apart("the largest distance", most.spread, APART * most.scale)
    said = near(together, were) if shrinks and falls else ""
    if not (shrinks and together.holds and were.holds and falls):
        return passed(measured, expected="outputs that stay apart", near=said, **details)
    return failed(
        f"{measured}, {last.spread / last.scale:.2g} of their size; the loss goes from {run.losses[0]:.3g} to {run.losses[-1]:.3g}",
        expected="different outputs for different samples",
        summary="the outputs collapse: the loss falls because all samples get the same output",
        causes=(
            "two views are pulled together and nothing holds different samples apart",
            "the gradient flows into both sides of a siamese loss",
        ),
        remedies=(
            Remedy(text="add a term that keeps samples apart: negatives, variance, decorrelation"),
            Remedy(text="or stop the gradient of the target side", code="loss = distance(predictor(z1), z2.detach())"),
        ),
        follows=("learning-rate",),
        near=said,
        **details,
    )


def _collapse(run: Rehearsal, controls: Controls, measured: str, details: dict[str, Any]) -> Verdict:
    """One answer for all samples: proven wrong only where Adam keeps them apart on the same batches, at a lower loss."""
    adam, last = controls.of("adam"), run.looks[-1]
    if adam is None or adam.last is None or not (adam.fall[1] > SURE and ahead(run, adam)[1] > SURE):
        return passed(f"{measured}; one answer for all so far, as at the start of a hard task", **details)
    most = max(look.spread for look in run.looks)
    said = near(
        _apart("the last distance", last.spread, COLLAPSED * most, above=False),
        _apart(f"the distance with {adam.optimizer}", adam.last.spread, KEPT * last.spread),
        *_certain(run, adam),
    )
    if adam.last.spread <= KEPT * last.spread:
        return passed(f"{measured}; {adam.optimizer} gives one answer for all too", near=said, **details)
    return warned(
        f"{measured}; {adam.optimizer} keeps them {adam.last.spread:.3g} apart on the same batches, at a lower loss",
        expected="different answers for samples with different targets",
        summary="the predictions collapse: every sample gets the same answer",
        causes=("units died or saturated in the first large updates", "the learning rate is too large"),
        remedies=(Remedy(text="divide the learning rate by 10, or warm it up"),),
        follows=("learning-rate", "overfit-batch", "class-balance"),
        near=said,
        **details,
    )


def _pictures(looks: tuple[Look, ...], kind: str) -> tuple[Exhibit, ...]:
    x = tuple(float(look.update) for look in looks)
    lines = [Line(label="apart between samples", x=x, y=tuple(look.spread for look in looks))]
    lines.append(Line(label="moved since the last look", x=x[1:], y=tuple(look.change or 0.0 for look in looks[1:])))
    course = Curve(title="The answers to the same samples", x_label="update", y_label="difference", lines=tuple(lines))
    shown = [look.shown for look in looks]
    if kind not in ("classes", "yes-no") or not all(shown) or not all(math.isfinite(p) for row in shown for p in row):
        return (course,)
    what = "given to the right class" if kind == "classes" else "of yes"
    heat = Heatmap(
        title=f"Probability {what}: a row for each look, a column for each sample",
        x_label="sample",
        y_label="look",
        values=tuple(shown),
    )
    return (course, heat)
