"""The last activation keeps the output from values that the targets ask for.

What it does
    Follows the bounds that functions set (ReLU, sigmoid, tanh, softmax, clamp, softplus, exp) through what is done to the values
    afterwards, up to each loss. Computes the lowest loss within these bounds, with the targets of up to three batches.
Why it matters
    What the last function cannot give, no training reaches: a ReLU never answers below 0, a tanh never beyond 1. The loss stops
    at a floor that looks like a hard task. Class scores behind a ReLU get no gradient where they are 0.
How to fix
    Let the last layer be linear: delete the activation or clamp after it; give cross-entropy and BCE-with-logits raw scores. Or
    bring targets and activation together: scale the targets into the range of the output, or the output onto theirs.
Known limits
    Bounds are followed through sums and products with constants, views and means, not through layers. A few outliers beyond the
    bounds are left alone as long as they cost less than 2 % of what there is to explain. Softmax and sigmoid before a loss that
    applies them are double-softmax's.
Source
    Nikanjam et al., "Automatic Fault Detection for Deep Learning Programs Using Graph Transformations" (2021): wrong activation.
"""

import math

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.probes.output_range import VALUES, OutputRange, Reach
from nncheck.registry import check
from nncheck.verdict import Histogram, Panel, Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# The part of the way from the best constant answer to the lowest loss that the bounds take away. A batch counts as learned when
# 2 % of it is left for values and 5 % for classes, so a head that must leave more cannot be trained to the end.
LOST_VALUES, LOST_CLASSES = 0.02, 0.05
# From here on it is no matter of a few outliers: a fifth of the best that an ideal model could explain.
MUCH = 0.10
# Scores behind a ReLU are 0 for half of all values when the layer before it is centred. Where the right class has exactly 0, it
# gets no gradient: an eighth of the predictions is far more than the chance zero of a layer with large positive biases.
STUCK = 0.125
# Raw scores cut to [0, 1] for BCE: values exactly at the ends get no gradient. Sigmoid never gives them in float32 up to |z| = 16.
CUT = 0.10


@check(
    stage=Stage.WIRING,
    after=("forward-pass", "finite-values", "loss-broadcast"),
    consequence_of=("data-scale", "label-range", "double-softmax", "gradient-flow", "saturation"),
)
def output_range(seen: OutputRange) -> Verdict:
    """Judge each loss; the first that cannot be reached is reported."""
    if not seen.kinds:
        return skipped("no loss of torch's with targets to compare with was called")
    for reach in seen.reaches:
        verdict = _fault(reach)
        if verdict is not None:
            return verdict
    if not seen.reaches:
        kinds = ", ".join(seen.kinds)
        return passed(
            f"no function bounds the values that {kinds} is given ({seen.unbounded} call(s))",
            expected="targets within reach",
        )
    reach = seen.reaches[0]
    verdict = passed(
        f"{_bounds(reach)} and targets {_wanted(reach)}: {reach.outside:.2g} of {reach.targets} are beyond"
        if reach.kind in VALUES
        else f"{_bounds(reach)}; the lowest {reach.kind} within this is {reach.floor:.3g}",
        expected="targets within reach of the output",
        numbers=_numbers(reach),
    )
    return uncertain(verdict, _errors(reach), _near(reach))


def _errors(reach: Reach) -> dict[str, float]:
    return {name: share_error(getattr(reach, name), reach.targets) for name in ("outside", "stuck")}


def _near(reach: Reach) -> str:
    """Of the shares counted over the targets, by `_rectified` and `_cut`."""
    if reach.kind == "cross-entropy" and reach.function == "relu" and reach.since == 0:
        error = share_error(reach.stuck, reach.targets)
        return near(Edge(name="the share of right classes at 0", value=reach.stuck, limit=STUCK, error=error))
    if reach.kind == "bce" and reach.function in ("clamp", "clip", "hardtanh"):
        cut = reach.at_low + reach.at_high
        return near(Edge(name="the share that is cut off", value=cut, limit=CUT, error=share_error(cut, reach.targets)))
    return ""


def lost(reach: Reach) -> float:
    """The part of what there is to explain that the bounds keep away; 0 if there is nothing to explain."""
    way = reach.constant - reach.free
    return (reach.floor - reach.free) / way if way > 1e-12 else 0.0


def _fault(reach: Reach) -> Verdict | None:
    probabilities = reach.function in ("softmax", "sigmoid", "log_softmax", "logsigmoid", "log_sigmoid")
    if reach.kind not in VALUES and probabilities:
        return None
    away = lost(reach)
    limit = LOST_VALUES if reach.kind in VALUES else LOST_CLASSES
    if math.isfinite(away) and away > limit and (reach.kind not in VALUES or reach.outside > 0) and reach.fixed:
        return uncertain(_unreachable(reach, away), _errors(reach))
    if reach.kind == "cross-entropy" and reach.function == "relu" and reach.since == 0 and reach.stuck > STUCK:
        return uncertain(_rectified(reach), _errors(reach), _near(reach))
    if reach.kind == "bce" and reach.function in ("clamp", "clip", "hardtanh") and reach.at_low + reach.at_high > CUT:
        return uncertain(_cut(reach), _errors(reach), _near(reach))
    return None


def _unreachable(reach: Reach, away: float) -> Verdict:
    name = reach.function
    if reach.kind in VALUES:
        measured = (
            f"{_bounds(reach)}; targets {_wanted(reach)}, {reach.outside:.1%} of {reach.targets} beyond it; the lowest "
            f"{reach.kind} within reach is {reach.floor:.3g}, the best constant answer gives {reach.constant:.3g}"
        )
        beyond = f"{reach.outside:.0%} of the targets"
        summary = f"{name} keeps the output from {beyond}: {reach.kind} cannot fall below {reach.floor:.3g}"
        remedies: tuple[Remedy, ...] = (
            Remedy(text=f"delete the {name} after the last layer, so that the output can be any number"),
            Remedy(
                text=f"or scale the targets into [{reach.low:g}, {reach.high:g}], and predictions back when they are used"
            ),
        )
        if math.isinf(reach.high) or math.isinf(reach.low):
            remedies = remedies[:1]
    else:
        measured = (
            f"{_bounds(reach)}; the lowest {reach.kind} within this is {reach.floor:.4f} (without bounds {reach.free:.3g}, "
            f"best constant answer {reach.constant:.3g})"
        )
        summary = f"{name} bounds the scores: {reach.kind} cannot fall below {reach.floor:.4f}"
        remedies = (Remedy(text=f"delete the {name} after the last layer: the loss takes raw scores of any size"),)
    say = failed if away > MUCH else warned
    return say(
        measured,
        expected="targets within reach of the output",
        summary=summary,
        numbers={**_numbers(reach), "lost": away},
        places=_places(reach),
        causes=(
            f"{name} is the last function before the loss, and gives values from {reach.low:g} to {reach.high:g} only",
        ),
        remedies=remedies,
        exhibits=_picture(reach),
    )


def _rectified(reach: Reach) -> Verdict:
    return failed(
        f"class scores are never below 0: {reach.at_low:.0%} of them are exactly 0, and so is the score of the right class for "
        f"{reach.stuck:.0%} of the samples",
        expected="scores of either sign",
        summary=f"a ReLU after the last layer: the right class of {reach.stuck:.0%} of the samples has score 0 and no gradient",
        numbers=_numbers(reach),
        places=_places(reach),
        causes=("the last layer is followed by a ReLU, as hidden layers are",),
        remedies=(Remedy(text="delete the ReLU after the last layer and give cross-entropy its raw scores"),),
    )


def _cut(reach: Reach) -> Verdict:
    cut = reach.at_low + reach.at_high
    return failed(
        f"{cut:.0%} of the probabilities are exactly {reach.low:g} or {reach.high:g}, cut off by {reach.function}",
        expected="probabilities from a sigmoid, strictly between 0 and 1",
        summary=f"{reach.function} makes probabilities of raw scores: {cut:.0%} are cut off and get no gradient",
        numbers=_numbers(reach),
        places=_places(reach),
        causes=("raw scores are forced into [0, 1] so that BCE accepts them",),
        remedies=(
            Remedy(
                text="delete the clamp and use BCE-with-logits on the raw scores; sigmoid where probabilities are read",
                code="loss = F.binary_cross_entropy_with_logits(scores, target)",
            ),
        ),
    )


def _bounds(reach: Reach) -> str:
    low = "-inf" if math.isinf(reach.low) else f"{reach.low:.3g}"
    high = "inf" if math.isinf(reach.high) else f"{reach.high:.3g}"
    return f"after {reach.function} the output lies between {low} and {high}"


def _wanted(reach: Reach) -> str:
    return f"go from {reach.wanted_low:.3g} to {reach.wanted_high:.3g}"


def _places(reach: Reach) -> tuple[Place, ...]:
    return (
        (reach.function_place,)
        if reach.function_place.file or not reach.place.file
        else (reach.function_place, reach.place)
    )


def _numbers(reach: Reach) -> dict[str, float]:
    return {
        "low": reach.low,
        "high": reach.high,
        "outside": reach.outside,
        "floor": reach.floor,
        "constant": reach.constant,
        "stuck": reach.stuck,
        "classes": float(reach.classes),
    }


def _picture(reach: Reach) -> tuple[Histogram, ...]:
    if reach.kind not in VALUES:
        return ()
    note = f"the output reaches {reach.low:.3g} to {reach.high:.3g}"
    panel = Panel(label="targets", edges=reach.edges, counts=reach.counts, note=note)
    return (Histogram(title="What the targets ask for", x_label="target", panels=(panel,)),)
