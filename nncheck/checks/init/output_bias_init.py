"""The output does not start at the best constant prediction.

What it does
    Computes, from the labels of up to 20 batches, the constant output with the lowest loss (label shares for cross-entropy,
    rates for BCE with its pos_weight, mean or median for regression) and compares its loss with the loss at initialisation.
Why it matters
    With rare classes or targets far from zero the first updates do nothing but move the output bias: a loss curve like a hockey
    stick, steps that a bias set beforehand saves.
How to fix
    Set the output layer's bias, or the mean that is added to the outputs, to the values given before the optimizer is made. If
    the layer has no bias, give it one; for regression, standardising the targets does the same.
Known limits
    A warning at most: it costs updates, not correctness. The updates saved are simulated for the output layer alone, on its mean
    input, with the user's optimizer and no schedule. Targets made inside the model are known for the first batch only.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): "init well".
"""

from __future__ import annotations

import math

from nncheck.checks._near import Edge, near, uncertain
from nncheck.probes.initial_loss import InitialLoss
from nncheck.probes.label_baseline import UPDATES as MOST_UPDATES, LabelBaseline, spelled
from nncheck.registry import check
from nncheck.verdict import Bars, Guide, Remedy, Stage, Table, Verdict, passed, skipped, warned

# Classification: the gap to the constant, as a share of it and in standard errors. Half the constant: labels that are 17 % or
# less positive. Below that (a quarter means 23 %) the first updates make up for it unnoticed.
GAP, ERRORS = 0.5, 3.0
# A gap of a few hundredths of a nat is gone after a few updates, whatever its share of a small constant.
LEAST_GAP = 0.1
# Regression: initial loss over the loss of the best constant, E[y^2]/Var: 1.05 for N(0, 1), 5.1 for U(0, 1), 26 for
# N(50, 10). |y| grows with the root.
# Counts are judged by their deviance, what is left above perfect rates, which is to Poisson what the square is to MSE. A mean of
# 9 gives 24; its log-rate lies as far from zero as the log-odds of one positive in ten.
R0 = {"mse": 4.0, "l1": 2.0, "smooth-l1": 2.0, "huber": 2.0, "poisson-nll": 25.0}
# Most of the initial loss must be the targets' own, or else it is the outputs that are too large (loss-at-init).
OWN_SHARE = 0.5
_UNUSUAL = {
    "reconstruction": "the target is what the model is given: a reconstruction has no labels to be frequent or rare",
    "soft targets": "the targets are probabilities, not labels: their mean is no frequency",
}
# Unigram shares need this many tokens for each class seen.
TOKENS_EACH = 20


@check(
    stage=Stage.INIT,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "label-range",
        "class-balance",
        "loss-broadcast",
        "batch-mixing",
        "loss-at-init",
        "double-softmax",
        "unused-parameters",
    ),
)
def output_bias_init(labels: LabelBaseline, start: InitialLoss) -> Verdict:
    """Judge the outputs of the first batch against the best constant, both for all labels seen."""
    verdict = _judge(labels, start)
    loss, constant = _errors(labels, start)
    return uncertain(verdict, {"loss": loss, "constant": constant}, _near(labels, loss, constant))


def _errors(labels: LabelBaseline, start: InitialLoss) -> tuple[float, float]:
    """Standard errors of the first batch's loss, and of the best constant's: a variance of n numbers is known to sqrt(2/n)."""
    level = next((one for one in start.levels if one.kind == labels.kind and one.samples), None)
    if level is None:
        return math.nan, labels.error
    loss = level.error * math.sqrt(len(level.samples))
    return loss, math.sqrt(2 / max(1, level.samples[0])) * labels.here if labels.kind in R0 else labels.error


def _near(labels: LabelBaseline, loss: float, constant: float) -> str:
    if labels.head is None or not math.isfinite(labels.here):
        return ""
    if labels.kind in R0:
        reach = labels.here - labels.lowest
        if not reach > 0:
            return ""
        times, own, limit = _times(labels), (labels.zero - labels.lowest) / reach, R0[labels.kind]
        return near(
            Edge(
                name="the first loss over the constant's",
                value=times,
                limit=limit,
                error=math.hypot(loss, times * constant) / reach,
            ),
            Edge(
                name="the output zero's loss over the constant's",
                value=own,
                limit=limit,
                error=math.hypot(loss, own * constant) / reach,
            ),
        )
    if labels.unusual or labels.classes >= 2 * max(1, labels.distinct):
        return ""
    own, allowed = labels.zero - labels.constant, _allowed(labels)
    # The gap is the smaller of two: with the first batch's labels, and with labels drawn from all.
    gaps = [(labels.loss, math.hypot(loss, constant)), (labels.drawn, constant)]
    return near(
        *(
            Edge(name="the gap to the constant's loss", value=value - labels.constant, limit=allowed, error=error)
            for value, error in gaps
            if math.isfinite(value)
        ),
        Edge(name="the output zero's gap", value=own, limit=OWN_SHARE * _gap(labels), error=constant),
    )


def _judge(labels: LabelBaseline, start: InitialLoss) -> Verdict:
    if not labels.kind:
        return skipped("no loss was called whose best constant prediction is known")
    if start.trained:
        return skipped(f"the model was trained before ({start.trained})")
    if labels.unusual in _UNUSUAL:
        return skipped(_UNUSUAL[labels.unusual])
    if not math.isfinite(labels.here) or not math.isfinite(labels.loss):
        return skipped("the best constant does not fit the shape of the output")
    if labels.classes > 1 and labels.labels < TOKENS_EACH * labels.distinct and labels.several:
        return skipped(f"{labels.labels} labels are too few for the shares of {labels.distinct} that occur")
    if labels.distinct == 1 if labels.classes > 1 else _all_alike(labels):
        return skipped("every label seen is the same: there is nothing to predict")
    if not labels.mixed_order and labels.classes > 1:
        return skipped("most batches hold one label only, so that the labels seen may not be those of the data set")
    if labels.head is None:
        return _passed(labels)  # what lies between the last layer and the loss decides what a bias can do
    if labels.kind in R0:
        return _regression(labels)
    if labels.classes >= 2 * max(1, labels.distinct):
        return _passed(
            labels
        )  # classes that never occur here: the head is too wide (loss-at-init), or the pictures are few
    if labels.unusual:
        return _passed(
            labels
        )  # language models customarily have no output bias, and learn the frequencies within a hundred steps
    gap = _gap(labels)
    own = labels.zero - labels.constant
    if gap <= _allowed(labels) or own < OWN_SHARE * gap:
        return _passed(labels)
    return _warn(labels, f"{_what(labels)}: the loss starts {gap:.3g} above the best constant")


def _all_alike(labels: LabelBaseline) -> bool:
    """Whether every label of a yes or no is the same, as those that a generator wants its pictures to have."""
    return labels.kind not in R0 and bool(labels.shares) and all(share in (0.0, 1.0) for share in labels.shares)


def _gap(labels: LabelBaseline) -> float:
    """How far the loss lies above the constant's, both for all labels. Outputs that know their labels count by what they reach."""
    return min(labels.loss, labels.drawn if math.isfinite(labels.drawn) else labels.loss) - labels.constant


def _allowed(labels: LabelBaseline) -> float:
    return max(GAP * abs(labels.constant), LEAST_GAP, ERRORS * labels.error)


def _regression(labels: LabelBaseline) -> Verdict:
    reach = labels.here - labels.lowest
    if reach <= 0:
        return skipped("the targets do not vary")
    ratio = _times(labels)
    own = (labels.zero - labels.lowest) / reach
    if ratio <= R0[labels.kind] or own <= R0[labels.kind]:
        return _passed(labels)
    if labels.kind == "poisson-nll":
        best = _numbers_text(labels.bias)
        return _warn(
            labels,
            f"the counts average {_numbers_text(labels.shares)}, which takes an output of {best}; "
            f"it starts at {_numbers_text(labels.now)}",
        )
    return _warn(
        labels, f"the targets are centred at {_numbers_text(labels.shares)}, the outputs at {_numbers_text(labels.now)}"
    )


def _times(labels: LabelBaseline) -> float:
    return (labels.loss - labels.lowest) / (labels.here - labels.lowest)


def _best(labels: LabelBaseline) -> float:
    """The constant's loss: for regression on the first batch's own targets, since outliers differ from batch to batch."""
    return labels.here if labels.kind in R0 else labels.constant


def _what(labels: LabelBaseline) -> str:
    if labels.kind in ("cross-entropy", "nll"):
        most = max(labels.shares, default=0.0)
        return f"{most:.0%} of the labels are one class" if most > 0.3 else "labels are unevenly frequent"
    mean = sum(labels.shares) / max(1, len(labels.shares))
    return f"{mean:.1%} of the labels are positive"


def _numbers_text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.3g}" for v in values[:3]) + ("..." if len(values) > 3 else "")


def _measured(labels: LabelBaseline) -> str:
    text = f"{labels.kind} starts at {labels.loss:.4g}; the best constant for these labels gives {_best(labels):.4g}"
    if labels.kind in R0 and labels.here > labels.lowest:
        what = " times as much above perfect predictions" if labels.lowest else " times as much"
        text += f" ({_times(labels):.3g}{what})"
    if labels.unusual == "language model":
        text += ", the entropy of the tokens' frequencies"
    text += f"; from {labels.labels} labels"
    if labels.updates:
        more = "more than " if labels.updates >= MOST_UPDATES else ""
        text += f"; {more}{labels.updates} updates of the output layer to come within 5 %"
    return text


def _passed(labels: LabelBaseline) -> Verdict:
    return passed(_measured(labels), expected=_expected(labels), numbers=_figures(labels), exhibits=_pictures(labels))


def _expected(labels: LabelBaseline) -> str:
    if labels.kind in R0:
        most = labels.lowest + R0[labels.kind] * (labels.here - labels.lowest)
        above = " above perfect predictions" if labels.lowest else ""
        return f"at most {most:.4g}: {R0[labels.kind]:g} times the best constant's loss{above}"
    if labels.unusual:
        return f"{labels.constant:.4g} after the first updates; a language model's output needs no bias"
    return f"at most {labels.constant + _allowed(labels):.4g}"


def _figures(labels: LabelBaseline) -> dict[str, float]:
    found = {"loss": labels.loss, "constant": _best(labels), "labels": float(labels.labels)}
    return found | ({"updates": float(labels.updates)} if labels.updates is not None else {})


def _warn(labels: LabelBaseline, summary: str) -> Verdict:
    places = tuple(
        place for place in (labels.head, labels.place) if place is not None and (place.file or place is labels.head)
    )
    return warned(
        _measured(labels),
        expected=_expected(labels),
        summary=summary,
        numbers=_figures(labels),
        places=places,
        causes=("the output bias starts near zero, and the first updates only move it",),
        remedies=_remedies(labels),
        exhibits=_pictures(labels),
    )


def _remedies(labels: LabelBaseline) -> tuple[Remedy, ...]:
    saved = ""
    if labels.updates:
        more = "more than " if labels.updates >= MOST_UPDATES else ""
        saved = f"; saves {more}{labels.updates} updates where the output layer alone moves, fewer as others move too"
    layer = spelled(labels.head_name) if labels.head_name else "model.head"
    found = []
    if labels.kind == "bce":
        logits = tuple(math.log(max(p, 1e-12)) - math.log(max(1 - p, 1e-12)) for p in labels.bias)
        code = f"{layer}.bias.data = {_tensor(logits)}"
    elif labels.head_type == "Parameter":
        one = len(labels.bias) == 1
        code = f"{layer}.data.fill_({labels.bias[0]:.4g})" if one else f"{layer}.data.copy_({_tensor(labels.bias)})"
    else:
        code = (
            f"{layer}.bias.data = {_tensor(labels.bias)}" if labels.bias else f"{layer}.bias.data = label_shares.log()"
        )
    if labels.head_name and not labels.head_has_bias:
        found.append(Remedy(text=f"`{labels.head_name}` has no bias: give it one, and set it{saved}", code=code))
    else:
        found.append(Remedy(text=f"set the output bias to the best constant{saved}", code=code))
    if labels.kind in R0 and labels.kind != "poisson-nll":
        found.append(Remedy(text="or standardise the targets", code="target = (target - mean) / std"))
    return tuple(found)


def _tensor(values: tuple[float, ...]) -> str:
    """A tensor as code, exact to four digits; in full, because it is to be copied."""
    return "torch.tensor([" + ", ".join(f"{v:.4g}" for v in values) + "])"


def _pictures(labels: LabelBaseline) -> tuple[Bars | Table, ...]:
    rows = [
        ("at initialisation", f"{labels.loss:.4g}"),
        ("output zero", f"{labels.zero:.4g}"),
        ("best constant", f"{_best(labels):.4g}"),
    ]
    table = Table(title="Loss before any update", columns=("", labels.kind), rows=tuple(rows))
    if not labels.shares or len(labels.shares) > 40 or len(labels.shares) < 2:
        return (table,)
    bars = Bars(
        title="Share of each label" if labels.kind not in R0 else "Mean of each target",
        x_label="share" if labels.kind not in R0 else "mean",
        labels=tuple(str(i) for i in range(len(labels.shares))),
        values=labels.shares,
        guides=(Guide(label="1/C", value=1 / len(labels.shares)),) if labels.kind in ("cross-entropy", "nll") else (),
    )
    return (bars, table)
