"""The loss at initialisation is not what chance gives.

What it does
    Observes the loss functions really called in up to eight batches and compares each with its exact value where the outputs
    say nothing: -log(1/C) for cross-entropy with its weights, smoothing, ignored targets and reduction taken into account,
    ln 2 for BCE, the mean of y^2 for MSE, and so on. Compares what the set-up makes of it with the number of predictions, and
    asks whether it rises with the loss of each prediction.
Why it matters
    An untrained network knows nothing, so its loss is known. A higher one means scores that are far too large: training spends
    its first epochs, or all of them, on shrinking them. A lower one means that labels leak, that the loss is not the one that
    was meant, or that it is averaged over predictions that do not count.
How to fix
    Scale the named layer's weights to a standard deviation near 1/sqrt(fan-in), e.g. with `reset_parameters()`, or scale the
    input; give the loss what it expects; divide by the number of predictions that count; match the head to the classes; weigh
    each label by a positive number; give `kl_div` reduction='batchmean'.
Known limits
    Losses written by hand have no known value and are skipped, but for Dice and its kin of raw scores; losses that compare
    samples with one another too (prototypical), but for products of embeddings that nobody normalised. A model that was
    trained before, or whose output layer is frozen, is not judged by its value.
    Regression is judged only when it starts far above the loss of the output zero.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): "verify loss @ init"; CS231n notes on sanity checks.
"""

from __future__ import annotations

import math

from nncheck.checks._near import Edge, near, uncertain
from nncheck.checks.init._loss_misuse import (
    harmless_sum,
    limits,
    misuse,
    misuse_of_value,
    reduction_fault,
    wrong_classes,
)
from nncheck.checks.init._loss_pictures import figures, pictures
from nncheck.checks.init._outside_range import outside_range
from nncheck.checks.init._wrong_bias import Blame, wrong_bias
from nncheck.losses.starting import StartingLoss
from nncheck.observe.layer_sizes import Layer
from nncheck.probes.initial_loss import InitialLoss
from nncheck.probes.label_baseline import LabelBaseline, spelled
from nncheck.probes.loss_at_truth import LossAtTruth
from nncheck.probes.loss_inputs import LossInputs
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# A weight of standard deviation g/sqrt(fan-in) multiplies independent inputs by g: 0.58 is torch's default, 1.41 He's, 5/3 the
# recommended largest (tanh). Above this a layer was initialised by hand, to something else.
LARGE_GAIN = 2.5
DEFAULT_GAIN = 1 / math.sqrt(3)
# Standardised inputs have size 1, images in [0, 1] about 0.5, pixels in 0..255 about 130.
LARGE_INPUT = 10.0
# Regression: how many times the loss of the output zero (4: as if every target were doubled and turned round), where the
# outputs themselves are also large; a fresh head on inputs of size 1 gives outputs below 1. The losses that grow linearly
# have the roots of these.
REGRESSION_WARN, REGRESSION_FAIL, LARGE_OUTPUT = 4.0, 25.0, 3.0
LINEAR = ("l1", "smooth-l1", "huber")
BINARY = ("bce", "bce-with-logits")
REGRESSION = ("mse", "l1", "smooth-l1", "huber", "poisson-nll", "gaussian-nll")
# Layers that keep unit variance give scores that spread by 1 (LSUV's aim); that alone costs s^2/2, more with tied embeddings.
LARGE_SPREAD = 1.5
# Scores of unit vectors over the smallest temperature in use (0.05) spread by at most 20/sqrt(d), 7 for d = 8; their loss is
# below ln N + s^2/2 for small spreads s and ln N + s sqrt(2 ln N) for large ones: three times ln N needs s = sqrt(2 ln N).
FAR_APART, TIMES_CHANCE = 8.0, 3.0
# A classifier must know labels to come below this share of what the best constant reaches.
KNOWING = 0.5
# More of a loss's inputs than this at their bounds exactly: they are clipped, and what is clipped has no gradient.
CLIPPED = 0.1
# Scores that differ by class in the same way for every sample come from the bias.
FROM_BIAS = 0.7
# What another seed changes in the size and spread of the outputs (15 examples, 5 seeds each): 0.02 of it in the median,
# 0.06 at most; in the standard error itself 0.04.
SEEDS = 0.05
_CLOSED_FORM = {
    "cross-entropy": "ln C", "nll": "ln C", "bce": "ln 2", "bce-with-logits": "ln 2", "mse": "the mean of y^2",
    "l1": "the mean of |y|",
    "multi-margin": "(C-1)/C", "kl-div": "ln C less the targets' entropy", "multilabel-soft-margin": "ln 2", "soft-margin": "ln 2",
    "smooth-l1": "smooth L1 of the targets", "huber": "Huber's function of the targets", "poisson-nll": "1 at log-rate 0",
    "gaussian-nll": "half the mean of y^2 over the variance",
}  # fmt: skip


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=("data-scale", "label-range", "class-balance", "batch-mixing", "loss-broadcast", "dead-relu"),
    part="loss_fn",
)
def loss_at_init(start: InitialLoss, inputs: LossInputs, labels: LabelBaseline, truth: LossAtTruth) -> Verdict:
    """What the losses are given, how they are reduced, their values, and the number of classes, in this order."""
    found = outside_range(truth)
    if found is not None:
        return found
    if not start.levels:
        seen = f" (called: {', '.join(start.other)})" if start.other else ""
        return skipped(
            f"no loss with a known value at chance was called{seen}; losses written by hand are not guessed at"
        )
    same = len(inputs.inputs) == len(start.levels)
    for index, level in enumerate(start.levels):
        item = inputs.inputs[index] if same and inputs.inputs[index].kind == level.kind else None
        found = misuse(level, item)
        if found is not None:
            return found
    found = misuse_of_value(start.uses)
    if found is not None:
        return found
    connected = [level for level in start.levels if level.connected]
    if not connected:
        return skipped("no loss of torch's is connected to the model")
    for level in connected:
        known = not start.trained and not level.in_batch
        found = reduction_fault(start, level) or (_value(start, level, labels) if known else _unscaled(start, level))
        if found is not None:
            return found
    found = wrong_classes(connected[0], labels)
    if found is not None:
        return found
    if start.trained:
        return skipped(
            f"the model was trained before ({start.trained}): its loss of {start.final[0]:.4g} says nothing of its start"
        )
    judged = [level for level in connected if not level.in_batch]
    if not judged:
        return skipped(
            f"the {connected[0].kind} of {connected[0].loss:.4g} compares samples with one another: how alike they are before "
            "training depends on the encoder and the temperature, not on chance"
        )
    return _passed(start, judged[0])


def _value(start: InitialLoss, level: StartingLoss, labels: LabelBaseline) -> Verdict | None:
    """A finding if the value itself is out of bounds."""
    if not math.isfinite(level.loss) or not math.isfinite(level.expected):
        return None
    if level.kind in REGRESSION:
        return _regression(start, level, labels)
    warn, fail = limits(level.expected)
    excess = level.loss - level.expected
    least = level.expected if level.constant is None else min(level.expected, level.constant)
    if excess > warn + 3 * level.error:
        if start.normalised and not _large(start):
            return None  # a scale on cosines is a choice (ArcFace, s = 64)
        # Scores that are too large make the losses themselves uncertain; a layer that explains them settles it.
        certain = excess > fail + (0 if _large(start) else 3 * level.error)
        # One output that is as far off for every sample has no spread; scores of several classes count theirs by class.
        apart = max(level.spread, level.offset if level.kind in BINARY else 0.0)
        return _too_high(start, level, excess, certain, labels) if apart > LARGE_SPREAD else None
    if level.loss < KNOWING * least - 3 * level.error and least - level.loss > 0.1:
        return _too_low(start, level, least)
    return None


def _regression(start: InitialLoss, level: StartingLoss, labels: LabelBaseline) -> Verdict | None:
    bottom = level.lowest or 0.0
    reach = level.expected - bottom
    if reach <= 0 or level.size <= LARGE_OUTPUT:
        return None
    ratio = (level.loss - bottom) / reach
    power = 0.5 if level.kind in LINEAR else 1.0
    if ratio <= REGRESSION_WARN**power or level.loss - 3 * level.error <= level.expected:
        return None
    return _too_high(start, level, level.loss - level.expected, ratio > REGRESSION_FAIL**power, labels)


def _unscaled(start: InitialLoss, level: StartingLoss) -> Verdict | None:
    """Products of embeddings that are not normalised, each sample with an answer of its own among those of the batch."""
    if start.trained or start.normalised or not level.products or level.kind != "cross-entropy":
        return None
    if not (level.spread > FAR_APART and level.loss - 3 * level.error > TIMES_CHANCE * level.expected):
        return None
    verdict = failed(
        _measured(start, level),
        expected=f"about ln {level.classes} = {level.expected:.4g}, as for embeddings that say nothing yet",
        summary=f"the loss starts at {level.loss:.4g} instead of {level.expected:.4g}: the embeddings compared have any length",
        numbers=figures(start, level),
        places=(level.place,),
        causes=(
            f"products of embeddings that are not normalised: the scores spread by {level.spread:.3g}, and softmax gives "
            "all its weight to one of them",
        ),
        remedies=(
            Remedy(
                text="normalise both sides before the product, and scale by a temperature after it",
                code="scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / 0.1",
            ),
        ),
        exhibits=pictures(start, level),
    )
    beyond = TIMES_CHANCE * level.expected + 3 * level.error
    return uncertain(verdict, _errors(level), near(_spread(level.spread, FAR_APART), _loss(level, beyond)))


def _large(start: InitialLoss) -> list[Layer]:
    """Layers whose weights are far too large. A free embedding may have any size; one tied to the head may not."""
    return [
        layer
        for layer in start.layers
        if layer.gain is not None and layer.gain > LARGE_GAIN and (layer.type != "Embedding" or layer.tied)
    ]


def _too_high(start: InitialLoss, level: StartingLoss, excess: float, certain: bool, labels: LabelBaseline) -> Verdict:
    name, places, causes, remedies = _blame(start, level, labels)
    judge = failed if certain else warned
    verdict = judge(
        _measured(start, level),
        expected=_expected(level),
        summary=f"the loss starts at {level.loss:.4g} instead of {level.expected:.4g}: {name}",
        numbers=figures(start, level),
        places=(*places, level.place) if level.place.file else places,
        causes=causes,
        remedies=remedies,
        exhibits=pictures(start, level),
        follows=("saturation", "gradient-flow") if level.clipped > CLIPPED else (),
    )
    return uncertain(verdict, _errors(level), _near(start, level))


def _errors(level: StartingLoss) -> dict[str, float]:
    """Standard errors: over the samples as measured, for one batch of them, and by seeds."""
    whole = dict.fromkeys(("loss", "constant"), level.error)
    if level.kind in REGRESSION:  # the targets of other batches
        whole["expected"] = level.error
    one = level.error * math.sqrt(len(level.samples) or 1) * (level.factors[0] if level.factors else 1.0)
    return {**whole, "final": one, "spread": SEEDS * level.spread, "error": SEEDS * level.error}


def _loss(level: StartingLoss, limit: float, *, above: bool = True) -> Edge:
    return Edge(name="the loss", value=level.loss, limit=limit, error=level.error, above=above)


def _spread(apart: float, limit: float) -> Edge:
    return Edge(name="the spread of the outputs", value=apart, limit=limit, error=SEEDS * apart)


def _near(start: InitialLoss, level: StartingLoss) -> str:
    """Of the conditions of `_value` and `_regression`, in the order in which they are asked."""
    if level.kind in REGRESSION:
        reach = level.expected - (level.lowest or 0.0)
        if not reach > 0:
            return ""
        ratio, power = (level.loss - (level.lowest or 0.0)) / reach, 0.5 if level.kind in LINEAR else 1.0
        others = (_spread(level.size, LARGE_OUTPUT), _loss(level, level.expected + 3 * level.error))
        times = [
            Edge(name="the ratio to the output zero's loss", value=ratio, limit=limit**power, error=level.error / reach)
            for limit in (REGRESSION_WARN, REGRESSION_FAIL)
        ]
        return near(times[0], *others) or near(times[1], *others)
    if start.normalised and not _large(start):
        return ""
    warn, fail = limits(level.expected)
    margin = 3 * level.error
    apart = _spread(max(level.spread, level.offset if level.kind in BINARY else 0.0), LARGE_SPREAD)
    least = level.expected if level.constant is None else min(level.expected, level.constant)
    low = near(_loss(level, KNOWING * least - margin, above=False)) if start.shuffled is not None else ""
    certain = level.expected + fail + (0 if _large(start) else margin)
    return near(_loss(level, level.expected + warn + margin), apart) or near(_loss(level, certain), apart) or low


def _blame(start: InitialLoss, level: StartingLoss, labels: LabelBaseline) -> Blame:
    large = _large(start)
    tied = [layer for layer in large if layer.tied]
    if tied:
        layer = tied[-1]
        std = (layer.gain or 1.0) / math.sqrt(_fan_in(layer))
        return (
            f"`{tied[0].name}` is tied to the output and its weights have size {std:.2g}",
            _places(start, tied),
            ("an embedding starts as N(0, 1); as the weight of the output it multiplies the scores by sqrt(d)",),
            (
                Remedy(
                    text="start the shared weight small",
                    code=f"nn.init.normal_({spelled(layer.name)}.weight, std=0.02)",
                ),
            ),
        )
    if large:
        names = ", ".join(f"`{layer.name}`" for layer in large[:4]) + (
            f" and {len(large) - 4} more" if len(large) > 4 else ""
        )
        code = "\n".join(
            f"{spelled(layer.name)}.weight.data.mul_({DEFAULT_GAIN / (layer.gain or 1.0):.3g})" for layer in large[:8]
        )
        most = max(layer.gain or 0.0 for layer in large)
        return (
            f"the weights of {names} are too large (they multiply by {most:.3g})",
            _places(start, large),
            (f"weights of size {most:.3g}/sqrt(fan-in); torch's default is 0.58/sqrt(fan-in), He's 1.41/sqrt(fan-in)",),
            (
                Remedy(text="scale the weights to torch's default size", code=code),
                Remedy(text="or leave out the initialisation by hand"),
            ),
        )
    if start.input_size is not None and start.input_size > LARGE_INPUT:
        scale = "x = x / 255" if 60 < start.input_size < 255 else "x = (x - mean) / std"
        return (
            f"the input has size {start.input_size:.3g} (root mean square)",
            (Place(name="the input", detail=f"root mean square {start.input_size:.3g}"),),
            ("raw pixels or unscaled columns go into the first layer",),
            (Remedy(text="bring the input to size 1 in the data set", code=scale),),
        )
    weighted = [layer for layer in start.layers if layer.gain is not None]
    last = weighted[-1:]
    where = f"`{last[0].name}`" if last else "the output"
    if level.kind not in REGRESSION and level.offset > FROM_BIAS * level.spread:
        return wrong_bias(
            level, labels, where, f"{spelled(last[0].name)}.bias" if last else "model.head.bias", _places(start, last)
        )
    jump = max(weighted, key=_growth, default=None)
    culprit = jump if jump is not None and _growth(jump) > 10 else (last[0] if last else None)
    target = 0.5 if level.kind not in REGRESSION else 1.0
    size = max(level.spread, 1e-9)
    return (
        f"the outputs spread by {level.spread:.3g}"
        + (f"; most of it comes in at `{culprit.name}`" if culprit is not None and culprit is jump else ""),
        _places(start, [culprit] if culprit else []),
        ("values grow on their way through the layers, and the output layer passes them on",),
        (
            Remedy(
                text="make the output layer's weights smaller, or normalise what goes into it",
                code=f"{spelled(last[0].name)}.weight.data.mul_({target / size:.3g})" if last else None,
            ),
        ),
    )


def _growth(layer: Layer) -> float:
    return layer.came_out / layer.came_in if layer.came_in > 0 else 0.0


def _fan_in(layer: Layer) -> float:
    return float(layer.fan_in or 1)


def _places(start: InitialLoss, layers: list[Layer]) -> tuple[Place, ...]:
    return tuple(start.places[layer.name] for layer in layers if layer.name in start.places)


def _too_low(start: InitialLoss, level: StartingLoss, least: float) -> Verdict | None:
    """Outputs that know the labels: learned ones forget them when the parameters are shuffled, leaked ones do not."""
    if start.shuffled is None or not level.factors:
        return None
    without = start.shuffled / level.factors[0]
    if len(start.levels) != 1 or not without < KNOWING * least:
        return None
    verdict = failed(
        f"{_measured(start, level)}; with the values of every parameter shuffled it is still {without:.4g}",
        expected=f"{_expected(level)}, or {least:.4g} at the best constant",
        summary=f"the loss starts at {level.loss:.4g}, below the {least:.4g} that knowing nothing allows: labels reach the output",
        numbers={**figures(start, level), "shuffled": without},
        places=(level.place,),
        causes=(
            "the labels, or the tokens to be predicted, are part of what the model is given",
            "targets are not shifted: the model is asked for its own input",
        ),
        remedies=(
            Remedy(text="take the label out of the input; in language models compare output t with token t + 1"),
        ),
        exhibits=pictures(start, level),
    )
    return uncertain(verdict, _errors(level), _near(start, level))


def _passed(start: InitialLoss, level: StartingLoss) -> Verdict:
    verdict = passed(
        _measured(start, level),
        expected=_expected(level),
        numbers=figures(start, level),
        exhibits=pictures(start, level),
    )
    return uncertain(verdict, _errors(level), _near(start, level))


def _measured(start: InitialLoss, level: StartingLoss) -> str:
    text = f"{level.kind} starts at {level.loss:.4g} ± {level.error:.2g} over {level.predictions} predictions"
    if level.options:
        text += f" ({level.options})"
    if level.ignored:
        text += f", {level.ignored} ignored"
    factor = level.factors[0] if level.factors and len(start.levels) == 1 else 1.0
    summed = harmless_sum(start, level)
    if abs(factor - 1) > 0.01 and not summed:
        text += f"; the final loss is {start.final[0]:.4g}, {factor:.4g} times that"
    return text + f"; outputs spread by {level.spread:.3g}{summed}"


def _expected(level: StartingLoss) -> str:
    form = _CLOSED_FORM.get(level.kind, "its value at output zero")
    if level.classes > 1 and "C" in form:
        form += f" with C = {level.classes}"
    return f"{level.expected:.4g} ({form}{', ' + level.options if level.options else ''})"
