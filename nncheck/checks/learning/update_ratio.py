"""The updates are far too small or far too large for the weights they change.

What it does
    Takes updates 2 to 20 of a rehearsal (after a warm-up, if there is one) and compares the length of each with that of its
    weight, for every weight matrix. Biases, gains, embedding tables and tensors that start at zero are left out.
Why it matters
    A healthy update changes a matrix by about a thousandth. At a millionth an epoch does nothing, at half of it the next update
    undoes what this one did; and a group with a rate that is off by a few zeros is frozen without a word.
How to fix
    Multiply the learning rate (of the group named) by 1e-3 / ratio as a first guess, and let `learning-rate` find the range. What
    is not to be trained is frozen by `requires_grad_(False)`, not by a tiny rate.
Known limits
    The whole run is only judged where the loss does not fall either and Adam makes it fall on the same batches: a fine-tuning at
    a small rate is sound. A matrix whose gradient vanishes is `gradient-flow`'s finding.
Source
    Karpathy, CS231n: update/weight ratio about 1e-3. Measured on 230 sound set-ups: medians 1.5e-5 (fine-tuning) to 0.1.
"""

from statistics import median
from typing import Any

from nncheck.checks._near import Edge, near, of_t, uncertain
from nncheck.probes.controls import Control, Controls, ahead
from nncheck.probes.overfit import OverfitBatch
from nncheck.probes.rehearsal import Moves, Rehearsal
from nncheck.registry import check
from nncheck.verdict import Bars, Guide, Place, Remedy, Stage, Status, Verdict, failed, passed, skipped, warned

# The smallest median in use is fine-tuning with AdamW at 1e-5: 1.5e-5; Adam at 1e-6 on a new network, which hardly learns, has
# 1e-5, SGD at 1e-5 7e-7. Below 1e-8 float32, which holds 7 digits, loses the update altogether.
SMALL, NOTHING = 1e-5, 1e-8
# The largest median of sound set-ups is 0.1 (logistic regression by SGD at 0.5). A weight that only grows from a tiny start has
# 1/t at update t, so that its median over updates 2 to 20 is 0.1.
LARGE, WHOLE = 0.3, 1.0
# A group at less than 1e-5 of the largest rate: layer-wise rates (2.6 for each of twelve layers, as in ULMFiT) stay above that.
# Its updates are then below float32's resolution (6e-8) while the others are not small.
APART, LOST = 1e-5, 6e-8
# A control falls and is ahead for certain (one in 30,000 by chance; squared errors have heavy tails: a fall by 80 % has t = 5).
# With a usual eps the loss falls at least four times as far.
SURE, FARTHER = 4.0, 4.0
# What another seed changes, as a part of the figure (15 examples, 5 seeds each): 0.03 in the median, 0.2 at most.
SEEDS = 0.05
BARS = 40


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "loss-at-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
    ),
    part="optimizer",
)
def update_ratio(run: Rehearsal, controls: Controls, batch: OverfitBatch) -> Verdict:
    """Judge the median over the weight matrices, then the groups that stand out."""
    verdict = _judge(run, controls, batch)
    return uncertain(verdict, {name: SEEDS * value for name, value in verdict.numbers.items()})


def _judge(run: Rehearsal, controls: Controls, batch: OverfitBatch) -> Verdict:
    rows = [row for row in run.moves if row.matrix and row.ratio is not None and row.rate > 0 and row.gradient > 0]
    ratios = [row.ratio for row in rows if row.ratio is not None]
    if not ratios:
        return skipped("no weight matrix was updated often enough to compare")
    middle = median(ratios)
    smallest, largest = min(rows, key=_ratio), max(rows, key=_ratio)
    measured = (
        f"the median update of {len(rows)} weight matri{'x' if len(rows) == 1 else 'ces'} is {middle:.2g} of the weight"
    )
    if len(rows) > 1:
        measured += f", from {_ratio(smallest):.2g} ({smallest.name}) to {_ratio(largest):.2g} ({largest.name})"
    details: dict[str, Any] = {
        "numbers": {"median": middle, "smallest": _ratio(smallest), "largest": _ratio(largest)},
        "exhibits": (_bars(rows),),
    }
    place = (batch.optimizer_place,) if batch.optimizer_place else ()
    adam = controls.of("adam")
    if middle < SMALL and controls.doubt == "no certain fall" and adam is not None and adam.fall[1] > SURE:
        return (failed if middle < NOTHING else warned)(
            f"{measured}; the loss hardly falls, and {adam.optimizer} lowers it on the same batches by {adam.fall[0]:.3g}",
            expected=f"about 1e-3, not below {SMALL:g}",
            summary=f"the updates of {run.optimizer} are {middle:.1g} of the weights: too small to learn anything",
            places=place,
            causes=("the learning rate is far too small", "the loss is scaled down, so that its gradients are tiny"),
            remedies=(Remedy(text="raise the learning rate: 1e-3 / ratio times what it is, as a first guess"),),
            follows=("learning-rate", "lr-schedule"),
            near=_near_small(middle, adam) or near(_median(middle, NOTHING, above=False)),
            **details,
        )
    risen = run.diverged or run.seen.fall[0] < 0
    if middle > LARGE and (risen or controls.doubt == "no certain fall"):
        return (failed if middle > WHOLE and risen else warned)(
            f"{measured}; the loss does not fall",
            expected=f"about 1e-3, not above {LARGE:g}",
            summary=f"each update of {run.optimizer} is {middle:.2g} times as large as the weights",
            places=place,
            causes=("the learning rate is far too large", "the loss is scaled up, or a sum over the batch"),
            remedies=(Remedy(text="divide the learning rate by 10 until the loss falls"),),
            follows=("learning-rate", "loss-decreases", "lr-schedule"),
            near=near(_median(middle, LARGE)) or (near(_median(middle, WHOLE)) if risen else ""),
            **details,
        )
    usual = controls.of("small eps")
    if usual is not None and _farther(run, usual):
        part = median(row.of_rate or 0.0 for row in rows)
        eps = max(row.eps for row in rows)
        return warned(
            f"{measured}: {part:.1g} of the rate for each number, where Adam's are 0.1 to 1; {usual.optimizer} lowers the "
            f"loss on the same batches by {usual.fall[0]:.3g} instead of {run.seen.fall[0]:.3g}",
            expected="updates of about the size of the rate",
            summary=f"eps={eps:g} outweighs the gradients: {run.optimizer} makes updates of {part:.1g} of its rate",
            places=place,
            causes=("eps and lr were exchanged, or eps was meant for another optimizer",),
            remedies=(Remedy(text="take the default eps", code="eps=1e-8"),),
            near=_near_eps(run, usual),
            **details,
        )
    verdict = _groups(run, rows, middle, place, measured, details)
    doubted = controls.doubt == "no certain fall"
    said = near(_median(middle, LARGE)) if risen or doubted else ""
    said = said or (_near_small(middle, adam) if doubted and adam is not None else "")
    said = said or (_near_eps(run, usual) if usual is not None else "")
    return uncertain(verdict, {}, said) if verdict.status is Status.PASS else verdict


def _median(middle: float, limit: float, *, above: bool = True) -> Edge:
    return Edge(name="the median update", value=middle, limit=limit, error=SEEDS * middle, above=above)


def _near_small(middle: float, adam: Control) -> str:
    certain = Edge(name=f"the t of the fall with {adam.optimizer}", value=adam.fall[1], limit=SURE, error=1.0)
    return near(_median(middle, SMALL, above=False), certain)


def _near_eps(run: Rehearsal, usual: Control) -> str:
    """Of the conditions of `_farther`."""
    gain, t = usual.fall
    far = FARTHER * max(run.seen.fall[0], 0.0)
    return near(
        Edge(name=f"the t of the fall with {usual.optimizer}", value=t, limit=SURE, error=1.0),
        Edge(name=f"the t of the lead of {usual.optimizer}", value=ahead(run, usual)[1], limit=SURE, error=1.0),
        Edge(name=f"the fall with {usual.optimizer}", value=gain, limit=far, error=of_t(gain, t)),
    )


def _farther(run: Rehearsal, control: Control) -> bool:
    gain, t = control.fall
    return t > SURE and ahead(run, control)[1] > SURE and gain > FARTHER * max(run.seen.fall[0], 0.0)


def _groups(
    run: Rehearsal, rows: list[Moves], middle: float, place: tuple[Place, ...], measured: str, details: dict[str, Any]
) -> Verdict:
    """Groups whose rate is so far below the largest that they are frozen."""
    fastest = max(row.rate for row in rows)
    still = [row for row in rows if row.rate < APART * fastest and _ratio(row) < LOST]
    usual = [row for row in rows if row.rate >= APART * fastest]
    if still and _middle(usual) > SMALL:
        names = ", ".join(row.name for row in still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
        return warned(
            f"{names}: updates of {_middle(still):.1g} of the weight at a rate of {still[0].rate:g}; the others move by "
            f"{_middle(usual):.2g} at up to {fastest:g}",
            expected=f"updates that float32 can hold: more than {LOST:g} of the weight",
            summary=f"group {still[0].group} of {run.optimizer} is as good as frozen: its rate is {still[0].rate:g}",
            places=(
                *place,
                *(Place(name=row.name, detail=f"moves by {_ratio(row):.1g} of its size") for row in still),
            ),
            causes=("a rate with a few zeros too many, or the square of a factor that was meant once",),
            remedies=(
                Remedy(text="give the group a rate that trains it"),
                Remedy(
                    text="or freeze it, if that is meant: it then costs nothing", code="parameter.requires_grad_(False)"
                ),
            ),
            **details,
        )
    return passed(measured, expected="about 1e-3", **details)


def _ratio(row: Moves) -> float:
    return row.ratio or 0.0


def _middle(rows: list[Moves]) -> float:
    return median([_ratio(row) for row in rows]) if rows else 0.0


def _bars(rows: list[Moves]) -> Bars:
    shown = rows[:BARS]
    return Bars(
        title="Median size of updates 2 to 20, as a part of the weight",
        x_label="|update| / |weight|",
        labels=tuple(row.name for row in shown),
        values=tuple(_ratio(row) for row in shown),
        guides=(
            Guide(label="too small", value=SMALL),
            Guide(label="usual", value=1e-3),
            Guide(label="too large", value=LARGE),
        ),
        log=True,
    )
