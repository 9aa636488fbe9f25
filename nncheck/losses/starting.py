"""One loss call before any training: its value by prediction, and what it would be if the outputs said nothing."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, classes, elements, floor, place_of, soft_targets
from nncheck.losses.levels import best_constant
from nncheck.observe.lineage import compares_activations
from nncheck.verdict import Place

# With an output that says nothing each of these has a value; for the others nobody can know it.
KNOWN = (
    "cross-entropy", "nll", "bce", "bce-with-logits", "mse", "l1", "smooth-l1", "huber", "kl-div", "multi-margin",
    "multilabel-soft-margin", "soft-margin", "poisson-nll", "gaussian-nll",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StartingLoss:
    """One loss call, averaged over the batches.

    loss, error: per counted prediction, and its standard error over samples. expected: the same where outputs are all equal
    (regression: zero). constant: at the best constant for these targets, None if unknown. lowest: its floor, None if unknown.
    predictions, ignored: counted and left out. classes: 1 where there are none. several: predictions per sample above one.
    spread: standard deviation of a prediction's scores over classes (regression: of the outputs); offset: the part of it that
    is the same for all samples. clipped: the share of the inputs that are exactly the lowest or the highest of all.
    size: root mean square of the inputs. right: share of right predictions.
    target_sums: lowest and highest sum of a soft target. target_range: extremes of the targets.
    in_batch: whether samples are compared with one another: the labels are positions in the batch, or the right one always
    stands first, or the scores are made of two results of layers (contrastive and prototypical losses).
    products: whether in such a comparison every sample has its own right answer and scores of either sign: products of
    embeddings. Distances have one sign.
    factors: the final loss divided by this one, for each batch.
    counts, samples: predictions and samples of each batch; kept: the share of predictions that count.
    """

    kind: str
    place: Place
    reduction: str
    options: str
    loss: float
    error: float
    expected: float
    constant: float | None
    lowest: float | None
    predictions: int
    ignored: int
    classes: int
    several: bool
    spread: float
    offset: float
    clipped: float
    size: float
    right: float | None
    target_sums: tuple[float, float] | None
    target_range: tuple[float, float]
    in_batch: bool
    connected: bool
    target_connected: bool
    factors: tuple[float, ...]
    counts: tuple[int, ...]
    samples: tuple[int, ...]
    kept: tuple[float, ...]
    products: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is kept of one call in one batch: plain numbers and a few short tensors."""

    kind: str
    values: Tensor
    weights: float
    level: StartingLoss
    call: LossCall


def part_of(sandbox: Sandbox, call: LossCall, mask: Tensor | None, final: float, size: int) -> Part:
    blank = dataclasses.replace(call, input=uninformed(call))
    with torch.no_grad():
        values, weights = elements(call)
        flat, _ = elements(blank)
        total = call.target.numel() if call.kind in ("cross-entropy", "nll") and not soft_targets(call) else len(values)
        if mask is not None and len(mask) == len(values):
            values, weights, flat = values[mask], weights[mask], flat[mask]
        divisor = float(weights.sum()) or 1.0
        scale = per_sample(call)
        mean = float((values.double() * weights.double()).sum()) / divisor * scale
        expected = float((flat.double() * weights.double()).sum()) / divisor * scale
        constant = best_constant(call)
        bottom = floor(call)
        least = None if bottom is None else bottom[0] * _to_mean(call, len(values), divisor)
        level = StartingLoss(
            kind=call.kind,
            place=place_of(call, sandbox.setup.origins),
            reduction=call.reduction,
            options=describe_options(call),
            loss=mean,
            error=0.0,
            expected=expected,
            constant=None if constant is None or call.kind == "kl-div" else constant[1],
            lowest=least,
            predictions=len(values),
            ignored=total - len(values),
            classes=classes(call) if has_classes(call) else 1,
            several=len(values) > size,
            **_scores(call),
            target_range=(float(call.target.min()), float(call.target.max())),
            connected=call.input.requires_grad,
            target_connected=call.target.requires_grad,
            factors=(final / mean,) if mean else (),
            counts=(len(values),),
            samples=(size,),
            kept=(len(values) / total,) if total else (),
        )
        groups = values.double() * scale
        if mask is None and len(groups) > size and len(groups) % size == 0 and not level.ignored:
            groups = groups.view(size, -1).mean(1)  # what belongs to one sample is not independent
        # The call is kept for its options and targets: without its values and its graph.
        empty = call.input.new_empty((0, *call.input.shape[1:]))
        short = dataclasses.replace(call, input=empty, target=call.target.detach(), value=empty)
    return Part(kind=call.kind, values=groups.cpu(), weights=divisor, level=level, call=short)


def has_classes(call: LossCall) -> bool:
    """Whether a loss chooses among classes."""
    return call.kind in ("cross-entropy", "nll", "kl-div", "multi-margin")


def per_sample(call: LossCall) -> float:
    """KL is taken per distribution, everything else per element."""
    return float(call.input.size(-1)) if call.kind == "kl-div" and call.input.ndim else 1.0


def _to_mean(call: LossCall, count: int, divisor: float) -> float:
    """From the call's own reduction to the value per counted element."""
    if call.kind == "kl-div":
        length = per_sample(call)
        shares = {"sum": length / max(1, count), "batchmean": 1.0, "none": length, "mean": length}
        return shares.get(call.reduction, 1.0)
    return 1.0 / divisor if call.reduction == "sum" else 1.0


def uninformed(call: LossCall) -> Tensor:
    """An input that says nothing: equal logits, equal (log-)probabilities, regression output zero."""
    input = call.input.detach()
    if call.kind in ("nll", "kl-div"):
        count = input.size(1 if call.kind == "nll" and input.ndim > 1 else -1)
        return torch.full_like(input, -math.log(max(1, count)))
    if call.kind == "bce":
        return torch.full_like(input, 0.5)
    if call.kind == "poisson-nll" and not call.options.get("log_input", True):
        return torch.ones_like(input)
    return torch.zeros_like(input)


def describe_options(call: LossCall) -> str:
    """Weights, smoothing and the like, in words."""
    said = []
    if call.options.get("weight") is not None:
        said.append("class weights" if has_classes(call) else "weights")
    if call.options.get("pos_weight") is not None:
        said.append("pos_weight")
    if call.options.get("label_smoothing"):
        said.append(f"label smoothing {call.options['label_smoothing']:g}")
    if call.kind == "cross-entropy" and soft_targets(call):
        said.append("probabilities as targets")
    if call.reduction != "mean":
        said.append(f"reduction {call.reduction}")
    return ", ".join(said)


def _scores(call: LossCall) -> dict[str, Any]:
    """How far the scores lie apart, and how often they are right."""
    input = call.input.detach().float()
    right = sums = None
    in_batch = products = False
    if has_classes(call) and input.ndim > 1:
        rows = (
            input.movedim(1, -1).reshape(-1, classes(call))
            if call.kind != "kl-div"
            else input.reshape(-1, input.size(-1))
        )
        spread = float(rows.std(-1, correction=0).square().mean().sqrt())
        offset = float(rows.mean(0).std(correction=0))
        if call.kind == "cross-entropy" and soft_targets(call):
            wanted = call.target.detach().movedim(1, -1).reshape(-1, classes(call)).float()
            totals = wanted.sum(-1)
            sums = (float(totals.min()), float(totals.max()))
            labels = wanted.argmax(-1)
        elif call.kind == "kl-div":
            labels = call.target.detach().reshape(-1, input.size(-1)).argmax(-1)
        else:
            labels = call.target.detach().flatten()
        kept = (labels != call.options.get("ignore_index", -100)) & (labels >= 0)
        if bool(kept.any()):
            right = float((rows.argmax(-1)[kept] == labels[kept]).float().mean())
        ordered = call.kind == "cross-entropy" and not soft_targets(call) and by_position(labels, rows.size(-1))
        compared = compares_activations(call.input.grad_fn)
        in_batch = ordered or compared
        products = ordered and compared and float(rows.min()) < 0 < float(rows.max())
    else:
        # Probabilities hide how far apart scores are: they are taken back to before the sigmoid, up to float32's resolution.
        scores = input.clamp(1e-7, 1 - 1e-7).logit() if call.kind == "bce" else input
        spread = float(scores.std(correction=0))
        offset = abs(float(scores.mean()))
        if call.kind in ("bce", "bce-with-logits"):
            guess = input > (0.5 if call.kind == "bce" else 0.0)
            truth = call.target.detach() > 0.5
            if guess.shape == truth.shape:
                right = float((guess == truth).float().mean())
    size = float(input.square().mean().sqrt())
    low, high = input.min(), input.max()
    clipped = float(((input == low) | (input == high)).float().mean()) if bool(high > low) else 0.0
    return {
        "spread": spread,
        "offset": offset,
        "clipped": clipped,
        "size": size,
        "right": right,
        "target_sums": sums,
        "in_batch": in_batch,
        "products": products,
    }


def by_position(labels: Tensor, count: int) -> bool:
    """Whether labels say which sample of the batch belongs to which: each row has its own, or the right one stands first."""
    rows = len(labels)
    if rows < 3 or count < 3:
        return False
    if bool((labels == 0).all()):
        return True
    steps = labels.diff()
    if (
        count == rows and int(labels.sort().values.diff().min()) > 0
    ):  # a permutation: arange, or every sample's second view
        return rows > 4 or bool((steps == 1).all())
    # Arange into a longer list (other devices, hard negatives), or with each row's own column left out: one jump.
    regular = bool((steps == steps[0]).all()) and int(steps[0]) > 0
    return (count >= rows and regular) or (count == rows - 1 and int((steps != 1).sum()) <= 1)


def together(group: list[Part]) -> StartingLoss:
    """The batches of one call together."""
    weights = torch.tensor([part.weights for part in group], dtype=torch.double)
    weights = weights / weights.sum()

    def mean(name: str) -> float:
        values = torch.tensor([getattr(part.level, name) for part in group], dtype=torch.double)
        return float((values * weights).sum())

    def mean_if_known(name: str) -> float | None:
        return None if any(getattr(part.level, name) is None for part in group) else mean(name)

    values = torch.cat([part.values for part in group])
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    first = group[0].level
    sums = [part.level.target_sums for part in group if part.level.target_sums is not None]
    ranges = [part.level.target_range for part in group]
    pooled = _pooled_constant(group)
    return dataclasses.replace(
        first,
        loss=mean("loss"),
        error=error,
        expected=mean("expected"),
        constant=mean_if_known("constant") if pooled is None else pooled,
        lowest=mean_if_known("lowest"),
        predictions=sum(part.level.predictions for part in group),
        ignored=sum(part.level.ignored for part in group),
        spread=mean("spread"),
        offset=mean("offset"),
        clipped=mean("clipped"),
        size=mean("size"),
        right=mean_if_known("right"),
        target_sums=(min(s[0] for s in sums), max(s[1] for s in sums)) if sums else None,
        target_range=(min(r[0] for r in ranges), max(r[1] for r in ranges)),
        in_batch=all(part.level.in_batch for part in group),
        products=all(part.level.products for part in group),
        factors=tuple(f for part in group for f in part.level.factors),
        counts=tuple(part.level.counts[0] for part in group),
        samples=tuple(part.level.samples[0] for part in group),
        kept=tuple(k for part in group for k in part.level.kept),
    )


def _pooled_constant(group: list[Part]) -> float | None:
    """The best constant for the targets of all batches together; None where they do not fit together."""
    targets = [part.call.target for part in group]
    if group[0].level.constant is None or any(
        t.ndim != targets[0].ndim or t.shape[1:] != targets[0].shape[1:] for t in targets
    ):
        return None
    if not targets[0].ndim:
        return None
    shape = group[0].call.input.shape
    if group[0].kind in ("bce", "bce-with-logits", "mse") and targets[0].ndim == 2 and len(shape) != 2:
        return None
    found = best_constant(group[0].call, torch.cat(targets))
    return None if found is None else found[1]
