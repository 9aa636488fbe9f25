"""The network cannot learn one small batch by heart.

What it does
    Trains on up to 16 samples of the first batch until their loss is near its floor and every label is right: with the set-up's own
    optimizer first, and if that does not get there with Adam at 1e-3, 3e-3 and 3e-4. Dropout, stochastic depth, weight decay and
    schedules are off, the random numbers are the same in every step. A loss that stops early is compared with the levels where
    known faults stop it.
Why it matters
    A network that cannot even memorise a few samples will not learn the task. This catches what nothing else names.
How to fix
    Follow the level named: no softmax before cross-entropy, targets shaped like the predictions, inputs that reach the output,
    nothing after the last layer that cuts off part of the answers. If Adam fits and your optimizer does not, take a smaller
    learning rate (or one that is not almost zero). Fix the other findings first: most of them end here too.
Known limits
    A loss whose floor is not known (contrastive, adversarial, several terms) must only fall by 30 %. Models with fewer than four
    parameters for each prediction are not accused, nor is a loss that is still falling, or at no level with a
    name, when the runs have cost 180 training steps.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): overfit one batch. Floors: the loss functions themselves.
"""

from typing import Any

from nncheck.checks._near import Edge, near, uncertain
from nncheck.probes.overfit import OverfitBatch, Run
from nncheck.registry import check
from nncheck.verdict import (
    Curve,
    Exhibit,
    Guide,
    Line,
    Place,
    Remedy,
    Stage,
    Table,
    Verdict,
    failed,
    passed,
    skipped,
    warned,
)

# At a loss of more than half of the best constant's, next to nothing of the inputs was used.
STUCK = 0.5
# An optimizer whose loss rises to three times its start, and that has not learned the batch when a control has, overshoots; if it
# ends no better than a constant, or rose to ten times, its rate cannot be meant. (Adam at 10 rises to hundreds of times.)
RISE, SOAR = 3.0, 10.0
# A learning rate is called too small only where both say so: less than 1 % of the way in 100 updates, and updates smaller than
# 2e-5 of the weights (Adam 1e-6: 1e-5; SGD 1e-5: 7e-7; the smallest in use, AdamW 1e-4: 1e-3).
CREEP, CREEP_RATIO = 0.01 / 100, 2e-5
# Parameters for each prediction below which a network need not be able to know them by heart.
PARAMETERS_EACH = 4
# A mean of the targets ten standard deviations from zero: the first hundreds of updates only learn that number.
FAR = 100.0
# Half of the samples stand there with another label too: no network can learn that.
CONTRADICTED = 0.5
# What another seed, and with it another batch, changes, as a part of the figure (15 examples, 5 seeds each; median over them).
# Where a run stops that does not fit is less certain: 0.2 of what is left.
SEEDS = {"start": 0.03, "end": 0.08, "goal": 0.09, "floor": 1.0, "share_left": 0.03, "updates": 0.09, "accuracy": 0.008}
STOPPED = 0.2

# Of a rate that is off, these measure the rate itself on changing batches.
_RATES = ("update-ratio", "learning-rate", "loss-decreases", "lr-schedule")


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "input-preview",
        "data-scale",
        "label-range",
        "loss-broadcast",
        "loss-at-init",
        "output-bias-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "symmetry",
        "batch-mixing",
        "gradient-check",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
        "input-baseline",
        "learning-rate",
        "loss-decreases",
    ),
)
def overfit_batch(batch: OverfitBatch) -> Verdict:
    """Judge the runs: a turned sign, a loss below its floor, a fit, the optimizer, and what stopped the best run."""
    verdict = _judge(batch)
    parts = SEEDS if batch.best.fit else {**SEEDS, "end": STOPPED, "share_left": STOPPED}
    return uncertain(verdict, {name: parts[name] * abs(value) for name, value in verdict.numbers.items()})


def _edge(name: str, value: float, limit: float) -> Edge:
    return Edge(name=name, value=value, limit=limit, error=STOPPED * abs(value))


def _judge(batch: OverfitBatch) -> Verdict:
    details: dict[str, Any] = {"numbers": _numbers(batch), "exhibits": _exhibits(batch)}
    expected = f"at most {batch.goal.value:.3g} ({batch.goal.why})"
    place = (batch.loss_place,) if batch.loss_place else ()
    if batch.turned:
        return failed(
            f"the loss called backward on {_turned(batch)}; it ends at {batch.best.end:.4g}",
            expected="a loss that falls as the predictions get better",
            summary="the sign of the loss is turned: training makes the predictions worse",
            places=place,
            causes=("a minus before a loss that is to be minimised as it is",),
            remedies=(Remedy(text="take the minus away"),),
            **details,
        )
    low = min(min(run.losses) for run in batch.runs)
    if low < batch.goal.lowest or (batch.goal.kind == "nll" and not batch.goal.exact and low < 0):
        return _below(batch, low, place, details)
    best = batch.best
    if best.fit:
        return _judge_optimizer(batch, best, expected, details)
    if not batch.goal.exact:
        if _unmoved(batch):
            return _dead(batch, expected, details)
        return skipped(
            f"no floor is known for this loss; it {_way(best)} in {len(best.losses)} updates of {best.optimizer}",
            measured=_said(batch, best),
            **details,
        )
    return _judge_stop(batch, best, expected, place, details)


def _judge_optimizer(batch: OverfitBatch, best: Run, expected: str, details: dict[str, Any]) -> Verdict:
    """Some run fits; was it the user's?"""
    users = batch.users
    measured = _said(batch, best)
    if batch.goal.contradicted >= CONTRADICTED:
        return warned(
            f"{batch.goal.contradicted:.0%} of the samples have an input that another label has too; {measured}",
            expected="one label for one input",
            summary=f"identical inputs carry different labels: {batch.goal.contradicted:.0%} of the samples",
            causes=(
                "labels and inputs are out of step",
                "the inputs are constant: a loader or transform gives one sample again",
            ),
            remedies=(Remedy(text="look at the inputs of a few samples and their labels (see the samples shown)"),),
            **details,
        )
    if users is best:
        return passed(measured, expected=expected, **details)
    places = (batch.optimizer_place,) if batch.optimizer_place else ()
    both = f"{_said(batch, users)}; {measured}"
    rise = users.rise(batch.goal)
    if rise > RISE:
        worse = users.share >= 1 or rise > SOAR
        does = "makes the loss rise" if worse else "overshoots"
        return (failed if worse else warned)(
            f"{both}; on the way {users.optimizer} reached {max(users.losses):.4g}",
            expected=f"the loss to fall with {users.optimizer} as it does with {best.optimizer}",
            summary=f"{users.optimizer} {does} where {best.optimizer} learns the batch by heart",
            places=places,
            causes=("the learning rate is too large", "a schedule or warm-up that the set-up does not show"),
            remedies=(
                Remedy(
                    text=f"divide the learning rate by 10 until one batch can be learned; {best.optimizer} learned it"
                ),
            ),
            follows=_RATES,
            near=near(_edge("the rise of the loss", rise, RISE))
            or (near(_edge("the rise of the loss", rise, SOAR)) if users.share < 1 else ""),
            **details,
        )
    way = users.losses[0] - users.end
    whole = max(users.losses[0] - batch.goal.floor, 1e-12)
    frozen = users.dead or users.update_ratio == 0
    if frozen or (way / whole < CREEP * len(users.losses) and (users.update_ratio or 1.0) < CREEP_RATIO):
        does = "does not change" if frozen else "hardly moves"
        ratio = f", each update {users.update_ratio:.1g} of the weights" if users.update_ratio is not None else ""
        return (failed if frozen else warned)(
            both + ratio,
            expected=f"the loss to fall with {users.optimizer} as it does with {best.optimizer}",
            summary=f"{users.optimizer} {does} the loss; {best.optimizer} learns the batch by heart",
            places=places,
            causes=(
                "the learning rate is zero or far too small",
                f"the optimizer holds {batch.covered:.0%} of the trainable parameters",
            ),
            remedies=(Remedy(text=f"raise the learning rate; {best.optimizer} learned the batch"),),
            follows=_RATES,
            **details,
        )
    said = near(_edge("the rise of the loss", rise, RISE))
    return passed(f"{measured}; {_said(batch, users)}, which is slower", expected=expected, near=said, **details)


def _judge_stop(
    batch: OverfitBatch, best: Run, expected: str, place: tuple[Place, ...], details: dict[str, Any]
) -> Verdict:
    """No run fits: where did the best one stop, and why?"""
    measured = _said(batch, best)
    level = batch.goal.level_at(best.end)
    if _unmoved(batch):
        if level is None:
            return _dead(batch, expected, details)
    elif batch.parameters < PARAMETERS_EACH * batch.predictions:
        small = f"{batch.parameters} trainable parameters for {batch.predictions} predictions: too few to know them by heart"
        return skipped(small, measured=measured, **details)
    stopped = best.flat or best.dead
    if level is not None and (stopped or best.share > 0.9):
        return failed(
            f"{measured}: the level of {level.name}",
            expected=expected,
            summary=f"the loss stops at {best.end:.4g}, the level of {level.name}",
            places=place,
            causes=(level.why,),
            remedies=(Remedy(text=f"see {level.check}" if level.check else level.why),),
            **details,
        )
    if batch.goal.offset > FAR:
        return warned(
            f"{measured}; the mean of the targets is {batch.goal.offset**0.5:.0f} standard deviations from 0",
            expected=expected,
            summary="the targets are so far from 0 that the batch is not learned",
            causes=("the updates are spent on reaching the mean of the targets",),
            remedies=(Remedy(text="standardise the targets, or set the output bias to their mean"),),
            **details,
        )
    if batch.cut and best.accuracy != 1.0:
        long = f"undecided after {sum(len(run.losses) for run in batch.runs)} updates, which cost enough"
        return skipped(long, measured=measured, **details)
    if best.accuracy == 1.0 or not stopped:
        return passed(
            f"{measured}, {'every label right' if best.accuracy == 1.0 else 'still falling'}",
            expected=expected,
            **details,
        )
    return (failed if best.share > STUCK else warned)(
        measured,
        near=near(_edge("the share that is left", best.share, STUCK)),
        expected=expected,
        summary=f"one batch of {batch.samples} samples cannot be learned by heart: the loss stops at {best.end:.4g}",
        places=place,
        causes=(
            "inputs that do not reach the output, or targets that do not belong to it",
            "an activation after the last layer that cuts off part of the answers (ReLU on logits, tanh or sigmoid on a target)",
            f"too little that is trained: {batch.parameters:,} numbers, of which the optimizer holds {batch.covered:.0%}",
        ),
        remedies=(
            Remedy(text="compare predictions and targets in the table: which of them are wrong, and in what way"),
        ),
        **details,
    )


def _turned(batch: OverfitBatch) -> str:
    if batch.goal.kind:
        return f"is {batch.goal.kind} times a negative number"
    return f"falls as every one of {batch.samples} samples' predictions gets worse, by its own gradient"


def _unmoved(batch: OverfitBatch) -> bool:
    """Whether no update of any run changed the loss, a control's among them: the user's rate may be zero."""
    return all(run.unmoved for run in batch.runs) and any(not run.users for run in batch.runs)


def _dead(batch: OverfitBatch, expected: str, details: dict[str, Any]) -> Verdict:
    return failed(
        f"the loss stays at {batch.best.end:.6g} in {len(batch.best.losses)} updates of {batch.best.optimizer}",
        expected=expected,
        summary="nothing that is trained changes the loss",
        causes=("the trained parameters do not reach the loss", "all units behind them are dead"),
        remedies=(
            Remedy(text="look for a `detach`, `no_grad`, `argmax` or a dead layer between the parameters and the loss"),
        ),
        **details,
    )


def _below(batch: OverfitBatch, low: float, place: tuple[Place, ...], details: dict[str, Any]) -> Verdict:
    nll = batch.goal.kind == "nll"
    name, least = ("a negative log-likelihood", 0.0) if nll else (batch.goal.kind, batch.goal.floor)
    return failed(
        f"the loss fell from {batch.start:.4g} to {low:.4g}; {name} cannot honestly go below {least:.4g}",
        expected="a loss that stays at or above its floor",
        summary=f"the loss falls below its floor, to {low:.4g}: it does not measure what its name says",
        places=place,
        causes=("the model gives raw scores where the loss expects log-probabilities",)
        if nll
        else ("targets outside the range the loss expects",),
        remedies=(
            Remedy(text="end the model in log_softmax, or use cross_entropy, which has it inside")
            if nll
            else Remedy(text=f"check the range of what {batch.goal.kind} is given"),
        ),
        **details,
    )


def _said(batch: OverfitBatch, run: Run) -> str:
    right = f", {run.accuracy:.0%} of the labels right" if run.accuracy is not None else ""
    first, last = run.losses[0], run.losses[-1] if run.fit else run.end
    updates = f"{len(run.losses)} updates"
    return f"{run.optimizer} took {batch.samples} samples from {first:.4g} to {last:.4g} in {updates}{right}"


def _way(run: Run) -> str:
    first = run.losses[0]
    return f"fell by {max(0.0, (first - run.end) / max(abs(first), 1e-12)):.0%}"


def _numbers(batch: OverfitBatch) -> dict[str, float]:
    best = batch.best
    return {
        "start": batch.start,
        "end": best.end,
        "goal": batch.goal.value,
        "floor": batch.goal.floor,
        "share_left": best.share,
        "updates": float(sum(len(run.losses) for run in batch.runs)),
        **({"accuracy": best.accuracy} if best.accuracy is not None else {}),
    }


def _exhibits(batch: OverfitBatch) -> tuple[Exhibit, ...]:
    lines = tuple(
        Line(label=run.optimizer, x=tuple(float(i) for i in range(len(run.losses))), y=run.losses) for run in batch.runs
    )
    guides: tuple[Guide, ...] = ()
    if batch.goal.exact:
        guides = (
            Guide(label="floor", value=batch.goal.floor),
            Guide(label="goal", value=batch.goal.value),
            Guide(label="best constant", value=batch.goal.constant),
            *(Guide(label=v.name, value=v.value) for v in batch.goal.levels if v.name != "constant predictions"),
        )
    positive = all(y > 0 for line in lines for y in line.y)
    curve = Curve(
        title=f"Loss on {batch.samples} samples, trained on again and again",
        x_label="update",
        y_label=batch.goal.kind or "loss",
        lines=lines,
        guides=tuple(g for g in guides if g.value > 0) if positive else guides,
        log_y=positive,
    )
    table = Table(
        title="Predictions against targets after the last run", columns=("#", "prediction", "target"), rows=batch.table
    )
    shown: tuple[Exhibit, ...] = (curve, table) if batch.table else (curve,)
    return (*shown, batch.seen) if batch.seen else shown
