"""What learning a batch by heart means for a loss: its floor, the goal above it, and the levels where faults stop it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.micro import data_loss, mean_loss
from nncheck.lab.objective import Outcome
from nncheck.losses.call import CLASSIFICATION, LossCall, entropy, floor, per_element, reduced, soft_targets
from nncheck.losses.levels import Level, best_constant, plateaus

# Samples to learn. Two are too easy (everything passes); a sixteenth of a class list of ten still has most classes in it.
SAMPLES = 16
# Tokens or pixels of a batch, where each sample holds many.
DENSE_PREDICTIONS = 256
# A model can be expected to know a prediction by heart if it has this many parameters for it.
PARAMETERS_EACH = 4

# What may be left of the way from the best constant to the floor, by kind (5 % of cross-entropy: every label certain; R^2 > 0.98).
LEFT = {
    "cross-entropy": 0.05, "nll": 0.05, "bce": 0.05, "bce-with-logits": 0.05,
    "mse": 0.02, "huber": 0.02, "smooth-l1": 0.02, "l1": 0.05, "poisson-nll": 0.05,
}  # fmt: skip
DENSE_LEFT = 0.10
# Dense regression (an image from an image) is limited by the bottleneck: most of the variance is enough.
DENSE_REGRESSION_LEFT = 0.30
# A loss without a known floor must fall by this part.
DROP = 0.30
# Inputs of so few numbers with so few values repeat by nature (two yes-no columns); that their labels differ is noise, no fault.
WIDE, VALUES = 8, 16
# A plateau is at a level if it differs from it by no more than this part of it.
AT_LEVEL = 0.02


@dataclass(frozen=True, kw_only=True)
class Goal:
    """When a batch counts as learned. All per counted prediction.

    kind: of the loss function seen, "" if there was none or several. exact: floor and scale are known, so that a plateau can be
    judged; else only a drop is asked for. constant: the best the same answer for every sample gives. lowest: below this the loss
    cannot honestly go. offset: the squared mean of the targets over their variance. contradicted: the part of the samples whose
    input stands there with another label too; what that leaves over is part of the floor.
    """

    kind: str
    exact: bool
    value: float
    accuracy: float
    floor: float
    why: str
    constant: float
    lowest: float
    levels: tuple[Level, ...]
    offset: float
    contradicted: float = 0.0

    def share(self, loss: float) -> float:
        """What is left of the way from the best constant prediction down to the floor; 1 is no better than a constant."""
        return (loss - self.floor) / max(self.constant - self.floor, 1e-12)

    def level_at(self, loss: float) -> Level | None:
        """The named level a plateau is at, if any."""
        near = [level for level in self.levels if abs(loss - level.value) <= AT_LEVEL * max(abs(level.value), 1e-6)]
        near = [level for level in near if level.value > self.value]
        return min(near, key=lambda level: abs(loss - level.value)) if near else None


def goal_of(outcome: Outcome, batch: Any) -> Goal:
    """The goal for `batch`, from the first forward pass on it."""
    size = batches.size(batch)
    call = data_loss(outcome)
    start = mean_loss(outcome)
    known = _known(call, outcome) if call is not None else None
    if call is None or known is None:
        return Goal(
            kind="" if call is None else call.kind,
            exact=False,
            value=start - DROP * abs(start),
            accuracy=0.0,
            floor=start - abs(start),
            why="no floor is known for this loss",
            constant=start,
            lowest=-math.inf,
            levels=(),
            offset=0.0,
        )
    low, why, constant = known
    contradicted, left_over = contradictions(batch, call)
    if left_over:
        low, why = low + left_over, "identical inputs with different labels"
    lowest = low
    unknowable = open_ends(batch, call)
    if unknowable:
        low, why = low + unknowable, "words that the same beginning leaves open"
    each = call.target.numel() / max(1, size)
    tokens = call.kind in CLASSIFICATION and not soft_targets(call) and each >= 2
    dense = tokens or (call.kind not in CLASSIFICATION and (call.target.ndim > 2 or each > 64))
    regression = call.kind not in CLASSIFICATION and not call.kind.startswith("bce")
    left = LEFT.get(call.kind, DENSE_LEFT)
    if dense:
        left = DENSE_REGRESSION_LEFT if regression else DENSE_LEFT
    scale = constant - low
    if scale <= 1e-4 * max(abs(low), 1e-3):  # one target for all: no constant is any worse than knowing them
        constant, scale = start, max(start - low, 1e-12)
    total = reduced(call.value) / per_element(call) if per_element(call) else 1.0
    levels = tuple(
        Level(name=v.name, value=v.value / total, why=v.why, check=v.check)
        for v in plateaus(call)
        if total and math.isfinite(v.value / total)
    )
    return Goal(
        kind=call.kind,
        exact=True,
        value=low + left * scale,
        accuracy=0.0 if left_over or unknowable else (0.95 if dense else 1.0),
        floor=low,
        why=why,
        constant=constant,
        lowest=lowest - 0.02 * max(scale, abs(lowest)),
        levels=levels,
        offset=_offset(call) if regression else 0.0,
        contradicted=contradicted,
    )


def _known(call: LossCall, outcome: Outcome) -> tuple[float, str, float] | None:
    """(floor, why, best constant), per counted prediction; None where the loss is more than this call or has no known floor."""
    try:
        low, best = floor(call), best_constant(call)
        each = per_element(call)
        value = reduced(call.value)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError):
        return None
    if low is None or best is None or not each or not math.isfinite(each) or not math.isfinite(value):
        return None
    if not is_whole(outcome, call):
        return None
    return low[0] * each / value, low[1], best[1]


def is_whole(outcome: Outcome, call: LossCall) -> bool:
    """Whether the loss is this call's value up to a factor: nothing else was added to it."""
    whole, part = float(outcome.loss.detach()), call.value.detach().double()
    if call.value.numel() > 1:  # reduced by the user's own hand, masks and weights included
        low, high = float(part.min()), float(part.max())
        return low - 1e-6 <= whole <= max(high, float(part.sum())) + 1e-6
    value = float(part)
    if math.isclose(whole, value, rel_tol=1e-3, abs_tol=1e-6):
        return True
    if value == 0 or not outcome.loss.requires_grad or not call.value.requires_grad:
        return False
    # A factor (1/accumulation, a batch size) leaves loss / value equal to d loss / d value; a penalty does not.
    (slope,) = torch.autograd.grad(outcome.loss, [call.value], retain_graph=True, allow_unused=True)
    return slope is not None and math.isclose(float(slope) * value, whole, rel_tol=1e-3)


def contradictions(batch: Any, call: LossCall) -> tuple[float, float]:
    """(part of the samples whose exact input carries another label too, the mean entropy that this leaves), for hard labels."""
    size = batches.size(batch)
    if call.kind not in CLASSIFICATION or soft_targets(call) or call.target.numel() != size:
        return 0.0, 0.0
    inputs = [t for _, t in batches.named_tensors(batches.split(batch)[0]) if t.ndim and t.size(0) == size]
    if not inputs or any(t.is_complex() or t.layout is not torch.strided for t in inputs):
        return 0.0, 0.0
    rows = torch.cat([t.detach().reshape(size, -1).double() for t in inputs], 1)
    groups = torch.unique(rows, dim=0, return_inverse=True)[1]
    labels = torch.unique(call.target.detach().flatten(), return_inverse=True)[1]
    counts = torch.zeros(int(groups.max()) + 1, int(labels.max()) + 1, dtype=torch.double)
    counts.index_put_((groups.cpu(), labels.cpu()), torch.ones(size, dtype=torch.double), accumulate=True)
    mixed = (counts > 0).sum(1) > 1
    wide = rows.size(1) >= WIDE or len(torch.unique(rows)) > VALUES
    return float(counts[mixed].sum()) / size if wide else 0.0, float((counts.sum(1) * entropy(counts)).sum()) / size


def open_ends(batch: Any, call: LossCall) -> float:
    """The mean entropy that is left to a model which predicts each token from those before it: sentences that begin alike.

    0 unless the targets counted are the batch's own tokens, one place on.
    """
    size = batches.size(batch)
    if call.kind not in CLASSIFICATION or soft_targets(call) or call.target.numel() % size:
        return 0.0
    targets = call.target.detach().reshape(size, -1)
    counted = targets != call.options.get("ignore_index", -100)
    inputs = [t.detach() for _, t in batches.named_tensors(batches.split(batch)[0]) if t.ndim and t.size(0) == size]
    if any(t.is_complex() or t.layout is not torch.strided for t in inputs):
        return 0.0
    steps = targets.size(1)
    tokens = next((t for t in inputs if _are_next(targets, counted, t)), None)
    if tokens is None:
        return 0.0
    # What comes with the text (a picture, a source sentence) is known from the start. A mask along the text grows with it.
    given = [t.reshape(size, -1).double() for t in inputs if t is not tokens and t.shape[:2] != tokens.shape]
    known = torch.cat(given, 1) if given else torch.zeros(size, 1, dtype=torch.double, device=tokens.device)
    group = torch.unique(known, dim=0, return_inverse=True)[1]
    left, seen = 0.0, 0
    for step in range(steps):
        group = torch.unique(torch.stack([group, tokens[:, step]], 1), dim=0, return_inverse=True)[1]
        kept = counted[:, step]
        labels = torch.unique(targets[:, step], return_inverse=True)[1]
        counts = torch.zeros(size, size, dtype=torch.double)
        ones = torch.ones(int(kept.sum()), dtype=torch.double)
        counts.index_put_((group[kept].cpu(), labels[kept].cpu()), ones, accumulate=True)
        left += float((counts.sum(1) * entropy(counts)).sum())
        seen += int(kept.sum())
    return left / max(1, seen)


def _are_next(targets: Tensor, counted: Tensor, tokens: Tensor) -> bool:
    """Whether every target counted is the token that follows; the last of each sample may stand in `targets` alone."""
    steps = targets.size(1)
    if tokens.ndim != 2 or tokens.dtype.is_floating_point or steps < 2 or tokens.size(1) not in (steps, steps + 1):
        return False
    kept = counted[:, :-1] & counted[:, 1:]
    return bool(kept.any()) and bool((targets[:, :-1] == tokens[:, 1:steps])[kept].all())


def _offset(call: LossCall) -> float:
    target = call.target.detach().double()
    if target.numel() < 2 or not target.dtype.is_floating_point:
        return 0.0
    variance = float(target.var(correction=0))
    return float(target.mean()) ** 2 / variance if variance > 0 else 0.0


def accuracy(call: LossCall | None) -> float | None:
    """The part of the labels that the largest output names; None where targets are no labels."""
    if call is None:
        return None
    with torch.no_grad():
        input, target = call.input.detach(), call.target.detach()
        if call.kind in CLASSIFICATION and not target.dtype.is_floating_point:
            named = input.argmax(1 if input.ndim > 1 else 0)
            kept = target != call.options.get("ignore_index", -100)
            return float((named == target)[kept].double().mean()) if bool(kept.any()) else None
        if call.kind in ("bce", "bce-with-logits") and bool(((target == 0) | (target == 1)).all()):
            limit = 0.5 if call.kind == "bce" else 0.0
            return float(((input > limit) == (target > 0.5)).double().mean())
    return None


def predictions(call: LossCall, count: int = 16) -> list[tuple[str, str, str]]:
    """(sample, prediction, target) for the first predictions, as text."""
    with torch.no_grad():
        input, target = call.input.detach().cpu(), call.target.detach().cpu()
        rows: list[tuple[str, str, str]] = []
        if call.kind in CLASSIFICATION and not target.dtype.is_floating_point and input.ndim > 1:
            share = input.float().softmax(1) if call.kind == "cross-entropy" else input.float().exp()
            likely, named = share.max(1)
            for i, (p, k, t) in enumerate(
                zip(likely.flatten()[:count], named.flatten()[:count], target.flatten()[:count], strict=False)
            ):
                rows.append((str(i), f"{int(k)} ({float(p):.2f})", str(int(t))))
            return rows
        if call.kind == "bce-with-logits":
            input = input.float().sigmoid()
        if input.is_complex() or target.is_complex():
            return []
        for i, (x, t) in enumerate(zip(input.flatten()[:count], target.flatten()[:count], strict=False)):
            rows.append((str(i), f"{float(x):.4g}", f"{float(t):.4g}"))
        return rows


def variety(batch: Any) -> Iterator[Tensor | None]:
    """Samples to learn, best first: a few with as many labels as there are, then (None) the whole batch."""
    size = batches.size(batch)
    tensors = [t for _, t in batches.named_tensors(batch) if t.ndim]
    if size > SAMPLES and tensors and all(size in t.shape and t.layout is torch.strided for t in tensors):
        yield _chosen(batch, size)
    yield None


def _chosen(batch: Any, size: int) -> Tensor:
    labels = [
        t
        for _, t in batches.named_tensors(batches.split(batch)[1])
        if t.ndim and t.numel() == size and not t.is_complex()
    ]
    if not labels or len(torch.unique(labels[0])) > size // 2:
        return torch.arange(SAMPLES)
    values = labels[0].flatten().tolist()
    turn: dict[Any, int] = {}
    keys = []
    for index, value in enumerate(values):  # first of each label, then second of each, ...
        turn[value] = turn.get(value, 0) + 1
        keys.append((turn[value], index))
    return torch.tensor([index for _, index in sorted(keys)[:SAMPLES]])


def smallest(samples: int, predictions: int, parameters: int) -> int:
    """How many of `samples` a model of this size can be asked to know by heart."""
    each = max(1.0, predictions / max(1, samples))
    fit = samples if each < 2 else int(DENSE_PREDICTIONS / each)
    return max(2, min(samples, fit, int(parameters / (PARAMETERS_EACH * each))))
