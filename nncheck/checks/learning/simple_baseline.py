"""The network learns nothing from inputs through which a straight line predicts well.

What it does
    Fits the simplest answers to samples of the training set in closed form: the commonest class or the mean, and a linear
    classifier or ridge regression on flattened inputs (randomly projected to 256 numbers); scores them on samples held back. Puts
    the network after 60 updates beside them. Warns where the line does well, and the network on fresh samples no better with its
    inputs than without them (the three runs of `input-baseline`).
Why it matters
    What a straight line gets is the level a network has to beat; without it, 90 % may be worse than nothing.
How to fix
    The labels belong to the inputs, so something on the way destroys what they say: an augmentation that leaves nothing of them, a
    layer that mixes up features, a noise. Take the first layers away one by one until a linear layer alone is left: that learns.
Known limits
    Sixty updates are few: "not yet" is no finding. Only a network that learns one batch by heart, and from a thousand fresh samples
    nothing, is told. For texts and pixels the baseline is how often each label comes; none for losses that are not known.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): end-to-end skeleton and dumb baselines. Count sketch: Charikar (2002).
"""

import math

from nncheck.checks._near import Edge, near, of_t, share_error, uncertain
from nncheck.probes.input_baseline import InputBaseline
from nncheck.probes.loss_targets import LossTarget, LossTargets
from nncheck.probes.rehearsal import Levels, Rehearsal
from nncheck.probes.training_data import TrainingData
from nncheck.registry import check
from nncheck.survey.labels import TargetStatistics
from nncheck.survey.sketch import LinearFit
from nncheck.verdict import Remedy, Stage, Table, Verdict, passed, skipped, warned

CLASSES = ("cross-entropy", "nll", "bce", "bce-with-logits", "multi-margin")
SQUARES = ("mse",)
# The fit must take at least half off the loss of the constant, by six standard errors ...
BETTER, CLEARLY = 0.5, 6.0
# ... while the network, on fresh samples with its inputs, is not ahead of the same network without them: by a tenth of the loss, or
# two standard errors. As for `input-baseline`, on 1,000 samples and more updates than one batch took to be learned by heart.
AHEAD, LEAD, SAMPLES, UPDATES = 0.1, 2.0, 1000, 64


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "loss-broadcast",
        "data-scale",
        "label-range",
        "loss-at-init",
        "output-bias-init",
        "activation-scale",
        "dead-relu",
        "saturation",
        "gradient-flow",
        "symmetry",
        "batch-mixing",
        "gradient-check",
        "eval-mode",
        "unused-parameters",
        "optimizer-coverage",
        "double-softmax",
        "output-range",
        "learning-rate",
        "loss-decreases",
    ),
)
def simple_baseline(data: TrainingData, losses: LossTargets, run: Rehearsal, fresh: InputBaseline | None) -> Verdict:
    """Tell the levels; warn only where a line sees what the network does not."""
    foreign = bool(losses.calls) and not any(one.own for one in losses.calls)
    if foreign and run.wanted is not None and run.wanted.kind == "outputs":
        return skipped("the loss compares no prediction with a target of the batch's own")
    linear = data.survey.linear
    call = next((one for one in losses.calls if one.connected), None)
    seen = data.survey.labels(call.own) if call is not None and call.own else None
    net, name = _network(run)
    rows = _linear_rows(linear) if linear is not None else _prior_rows(call, seen)
    if not rows:
        return skipped("the targets are neither labels nor numbers that a simple answer could be given to")
    if net is not None and net.eval_after is not None:
        right = "" if net.eval_after.wrong is None else f"{1 - net.eval_after.wrong:.1%}"
        rows.append((f"the network after {len(run.losses)} updates, on {name}", right, f"{net.eval_after.mean:.4g}"))
    words = [f"{what}: " + ", ".join(part for part in (right and f"{right} right", loss and f"loss {loss}") if part)
             for what, right, loss in rows]  # fmt: skip
    measured = "; ".join(words)
    table = Table(title="What simple answers get", columns=("answer", "right", "loss"), rows=tuple(rows))
    numbers = {} if linear is None else {"constant": linear.constant, "linear": linear.loss}
    if linear is not None and linear.right is not None and linear.majority is not None:
        numbers |= {"majority_right": linear.majority, "linear_right": linear.right}
    if linear is None or fresh is None or not _sees_nothing(linear, fresh):
        expected = "a network that beats them in the end; 60 updates may be too few for that"
        found = passed(measured, expected=expected, exhibits=(table,), numbers=numbers)
        return uncertain(found, _errors(linear), _near(linear, fresh))
    with_inputs, without = (_later(losses) for losses in (fresh.real, fresh.constant))
    right = "" if linear.right is None else f"{linear.right:.0%} of the labels right"
    said = right or f"{1 - linear.loss / linear.constant:.0%} of the variance"
    found = warned(
        f"on fresh samples the loss is {with_inputs:.4g} with the inputs and {without:.4g} with constant ones "
        f"(t = {fresh.over_constant.t:.1f}); {measured}",
        expected="a network that learns more with its inputs than without them, as a straight line does",
        summary=f"a straight line through the inputs gets {said} on samples held back; the network learns nothing from them",
        causes=(
            "an augmentation, in the network or the data set, that leaves nothing of what the inputs say",
            "a layer that mixes up features, positions or samples, or adds a noise larger than they are",
        ),
        remedies=(
            Remedy(text="look at what goes into the first layer in training: could you tell the label from it?"),
            Remedy(text="take augmentation and first layers away one by one until it learns"),
        ),
        exhibits=(table,),
        numbers=numbers,
    )
    return uncertain(found, _errors(linear), _near(linear, fresh))


def _errors(linear: LinearFit | None) -> dict[str, float]:
    """The line's loss is known to the error of the difference, most of which it is; shares as counted."""
    if linear is None:
        return {}
    shares = (("majority_right", linear.majority), ("linear_right", linear.right))
    counted = {name: share_error(share, linear.held) for name, share in shares if share is not None}
    return {"constant": linear.error, "linear": linear.error, **counted}


def _near(linear: LinearFit | None, fresh: InputBaseline | None) -> str:
    """The conditions of `_sees_nothing` that are figures."""
    if linear is None or fresh is None or fresh.helps or not _able(fresh):
        return ""
    gain, lead = linear.constant - linear.loss, fresh.over_constant
    enough = AHEAD * abs(_later(fresh.constant))
    return near(
        Edge(name="the line's lead over the constant", value=gain, limit=CLEARLY * linear.error, error=linear.error),
        Edge(
            name="the line's lead over the constant",
            value=gain,
            limit=(1 - BETTER) * linear.constant,
            error=linear.error,
        ),
        Edge(name="the t of the network's lead", value=lead.t, limit=LEAD, error=1.0, above=False),
        Edge(name="the network's lead", value=lead.gap, limit=enough, error=of_t(lead.gap, lead.t), above=False),
    )


def _sees_nothing(linear: LinearFit, fresh: InputBaseline) -> bool:
    """Whether a line does well for certain, and the network is no better with its inputs than without."""
    sure = linear.constant - linear.loss > CLEARLY * linear.error and linear.loss < BETTER * linear.constant
    lead = fresh.over_constant
    behind = lead.t < LEAD and lead.gap < AHEAD * abs(_later(fresh.constant))
    return sure and _able(fresh) and behind and not fresh.helps


def _able(fresh: InputBaseline) -> bool:
    """Whether the runs were long enough, for an optimizer that learns, to tell something."""
    learned = fresh.learned_in is not None and fresh.updates >= max(UPDATES, fresh.learned_in)
    return learned and fresh.samples >= SAMPLES and fresh.over_constant.pairs > 1


def _later(losses: tuple[float, ...]) -> float:
    later = losses[len(losses) // 2 :]
    return sum(later) / max(1, len(later))


def _network(run: Rehearsal) -> tuple[Levels | None, str]:
    """The network on samples it was not trained on, if there are any."""
    for levels, name in (
        (run.validation, "validation samples"),
        (run.fresh, "samples not trained on"),
        (run.seen, "its own"),
    ):
        if levels is not None and levels.eval_after is not None and math.isfinite(levels.eval_after.mean):
            return levels, name
    return None, ""


def _linear_rows(linear: LinearFit) -> list[tuple[str, str, str]]:
    if linear.kind == "classes":
        return [
            (f"the commonest of {linear.outputs} classes", f"{linear.majority:.1%}", f"{linear.constant:.4g}"),
            (f"a linear classifier, on {linear.held} samples held back", f"{linear.right:.1%}", f"{linear.loss:.4g}"),
        ]
    return [
        ("the mean", "", f"{linear.constant:.4g}"),
        (f"ridge regression, on {linear.held} samples held back", "", f"{linear.loss:.4g}"),
    ]


def _prior_rows(call: LossTarget | None, seen: TargetStatistics | None) -> list[tuple[str, str, str]]:
    """How often each label comes, or the spread of the numbers, where no line can be drawn."""
    if call is None or seen is None:
        return []
    if call.kind in CLASSES and seen.counts:
        counts = [count for value, count in seen.counts if value != call.ignore_index and value >= 0]
        total = sum(counts)
        if len(counts) < 2:
            return []
        entropy = -sum(c / total * math.log(c / total) for c in counts if c)
        what = f"the commonest of {len(counts)} labels" + (", at every place" if call.several else "")
        return [(what, f"{max(counts) / total:.1%}", f"{entropy:.4g}")]
    if call.kind in SQUARES and seen.kind == "float" and math.isfinite(seen.std):
        return [("the mean", "", f"{seen.std**2:.4g}")]
    return []
