"""Softmax or sigmoid applied before a loss that applies it again.

What it does
    Looks at what cross-entropy, BCE-with-logits and NLL are given: rows that sum to one with all values in [0, 1], or the
    result of a softmax or sigmoid, traced through the graph to the line that calls it.
Why it matters
    The loss takes softmax or sigmoid itself. Given probabilities it can only compare numbers between 0 and 1: it starts where a
    healthy loss starts, falls slowly and stops far above zero, at ln(1 + (C-1)/e) for C classes (1.4612 for ten).
How to fix
    Give cross-entropy and BCE-with-logits the raw outputs: delete the softmax or sigmoid before the loss and apply it only where
    probabilities are wanted. Give NLL the result of log_softmax. Keep the activation only with `BCELoss`, which expects it.
Known limits
    A sigmoid written by hand is not recognised unless its rows sum to one. log_softmax before cross-entropy changes nothing and
    is not reported. Losses written by hand are not looked at.
Source
    Karpathy, common mistakes thread (2018): "you passed softmaxed outputs to a loss that expects raw logits".
"""

import math

from nncheck.probes.loss_inputs import LossInput, LossInputs, Producer
from nncheck.registry import check
from nncheck.verdict import Histogram, Panel, Place, Remedy, Stage, Verdict, failed, passed, skipped

# Rows of probabilities sum to one up to float32's rounding of C terms; logits do so only by accident, and not in every row.
SUM_TOLERANCE = 1e-4
# One row may sum to one by accident.
FEWEST_ROWS = 2

EXPECTS_LOGITS = ("cross-entropy", "bce-with-logits", "multilabel-soft-margin", "soft-margin")
JUDGED = (*EXPECTS_LOGITS, "nll", "bce")


@check(stage=Stage.WIRING, after=("forward-pass", "finite-values"), consequence_of=("batch-mixing",), part="loss_fn")
def double_softmax(seen: LossInputs) -> Verdict:
    """Judge each loss input; the first that is wrong is reported."""
    judged = [item for item in seen.inputs if item.kind in JUDGED and item.connected]
    if not judged:
        kinds = ", ".join(sorted({item.kind for item in seen.inputs})) or "none that torch provides"
        return skipped(f"no cross-entropy, NLL or BCE with a gradient was called (losses seen: {kinds})")
    for item in judged:
        fault = _fault(item)
        if fault:
            return _report(item, *fault)
    item = judged[0]
    return passed(_measured(item), expected=_expected(item), numbers=_numbers(item))


def is_probabilities(item: LossInput) -> bool:
    """Whether every row is a distribution over classes."""
    return (
        item.classes > 1
        and item.rows >= FEWEST_ROWS
        and item.low >= 0
        and item.high <= 1 + SUM_TOLERANCE
        and item.row_sums_off < SUM_TOLERANCE
    )


def _fault(item: LossInput) -> tuple[str, Producer | None] | None:
    """(what the input is, what made it so) if the loss should not have it."""
    made, before = item.made_by, item.before
    if before is not None and before.name in ("softmax", "sigmoid") and made is not None:
        twice = made.name in ("softmax", "log_softmax", "sigmoid", "logsigmoid")
        if twice and not (item.kind == "bce" and before.name != "sigmoid"):
            return f"the result of {before.name} sent through {made.name} again", before
    if item.kind == "cross-entropy" and item.classes < 2:
        return None
    if item.kind in EXPECTS_LOGITS and made is not None and made.name in ("softmax", "sigmoid"):
        return f"the result of {made.name}", made
    if item.kind in ("cross-entropy", "nll", "bce-with-logits") and is_probabilities(item):
        return "rows of probabilities", made
    return None


def _report(item: LossInput, what: str, made: Producer | None) -> Verdict:
    name = made.name if made else "softmax"
    where: tuple[Place, ...] = (item.place,)
    if made is not None and (made.place.file, made.place.line) != (item.place.file, item.place.line):
        where = (made.place, item.place) if item.place.file else (made.place,)
    twice = item.before is not None and made is item.before
    least = f"; it cannot fall below {floor_of(item.classes):.4f}"
    consequence = {
        "cross-entropy": least,
        "nll": least if twice else "; it stays between -1 and 0 and its gradient is tiny",
    }.get(item.kind, "; it cannot fall below 0.3133 where the label is 1 and 0.6931 where it is 0")
    if item.kind == "bce":
        consequence = "; predictions stay between 0.5 and 0.731"
    over_batch = made is not None and made.name == "softmax" and made.dim == 0 and item.rows > 1 and item.classes > 1
    causes = [f"{item.kind} applies {_own(item)} itself, on top of this {name}"]
    if item.kind == "nll":
        causes = ["NLL expects log-probabilities and was given probabilities"]
    if item.kind == "bce" or twice:
        causes = [f"{name} is followed by a second activation before the loss"]
    if over_batch:
        causes.append(
            "it works along dimension 0, so that probabilities sum to one over the batch, not over the classes"
        )
    return failed(
        _measured(item),
        expected=_expected(item),
        summary=f"{item.kind} is given {what}{consequence}",
        numbers={**_numbers(item), "floor": floor_of(item.classes)} if item.kind == "cross-entropy" else _numbers(item),
        places=where,
        causes=tuple(causes),
        remedies=(_remedy(item, name),),
        exhibits=_picture(item),
    )


def floor_of(classes: int) -> float:
    """What cross-entropy can reach on inputs confined to [0, 1]: 1 for the right class and 0 for the others."""
    return math.log(1 + (classes - 1) / math.e)


def _own(item: LossInput) -> str:
    return "softmax" if item.kind == "cross-entropy" else "sigmoid"


def _remedy(item: LossInput, name: str) -> Remedy:
    if item.kind == "nll" and not (item.before is not None and item.made_by is not None):
        return Remedy(
            text="give NLL log-probabilities: log_softmax in place of softmax",
            code="loss = F.nll_loss(F.log_softmax(logits, dim=1), target)",
        )
    if item.kind == "bce":
        return Remedy(text="apply sigmoid once: delete the first one, or use BCE-with-logits on the raw outputs")
    return Remedy(
        text=f"delete the {name} before the loss and give the loss the raw outputs; apply {name} only to read probabilities",
        code=f"loss = loss_fn(logits, target)  # no {name} before it",
    )


def _measured(item: LossInput) -> str:
    text = f"{item.kind} is given values from {item.low:.3g} to {item.high:.3g}"
    if item.classes > 1 and item.kind in ("cross-entropy", "nll"):
        if item.row_sums_off < SUM_TOLERANCE:
            text += f"; each of {item.rows} rows sums to 1 (largest difference {item.row_sums_off:.1g})"
        elif item.log_sums_off < 1e-3:
            text += f"; each of {item.rows} rows is log-probabilities, which cross-entropy leaves as they are"
        else:
            text += f"; sums of its {item.rows} rows differ from 1 by up to {item.row_sums_off:.3g}"
    if item.made_by is not None:
        text += f"; made by {item.made_by.name}"
    return text


def _expected(item: LossInput) -> str:
    return {"nll": "log-probabilities", "bce": "probabilities, from one sigmoid"}.get(item.kind, "raw outputs (logits)")


def _numbers(item: LossInput) -> dict[str, float]:
    return {"low": item.low, "high": item.high, "row_sums_off": item.row_sums_off, "classes": float(item.classes)}


def _picture(item: LossInput) -> tuple[Histogram, ...]:
    if not item.counts:
        return ()
    panel = Panel(label=item.kind, edges=item.edges, counts=item.counts, note=f"{item.low:.3g} to {item.high:.3g}")
    return (Histogram(title="What the loss is given", x_label="value", panels=(panel,)),)
