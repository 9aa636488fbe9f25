"""Where a loss stops when something is wrong: the best constant answer, and the other known plateaus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nncheck.losses.call import (
    CLASSIFICATION,
    FAR,
    LossCall,
    classes,
    per_element,
    reduced,
    soft_targets,
    target_distribution,
)


@dataclass(frozen=True, kw_only=True)
class Level:
    """A value at which a loss is known to stop: `value` in the call's own reduction, `why` in words.

    `check`: the id of the check that looks for this cause, "" if none does.
    """

    name: str
    value: float
    why: str
    check: str = ""


def best_constant(call: LossCall, target: Tensor | None = None) -> tuple[Tensor, float] | None:
    """The one output, the same for every sample, that makes the loss lowest, and that loss per counted element.

    (constant, value): the constant has one entry per class or output column. None where no closed form is known.
    `target`: targets of the same form to use instead of the call's own.
    """
    target = call.target if target is None else target
    target = target.detach()
    with torch.no_grad():
        if call.kind in CLASSIFICATION:
            rows = target_distribution(call, target)
            total = rows.sum(0)
            if not len(rows) or float(total.sum()) <= 0:
                return None
            share = total / total.sum()
            counted = counted_weight(call, target, len(rows))
            value = float(-(torch.xlogy(total, share)).sum()) / counted
            return share.clamp_min(math.exp(-FAR)).log(), value
        columns = columns_of(call, target)
        if call.kind in ("bce", "bce-with-logits"):
            if bool(((columns < 0) | (columns > 1)).any()):
                return None
            positive = call.options.get("pos_weight") if call.kind == "bce-with-logits" else None
            scale = torch.ones(1, dtype=torch.double, device=columns.device) if positive is None else positive.double()
            if scale.numel() not in (1, columns.size(1)):
                return None
            ones, zeros = columns.mean(0) * scale.flatten(), (1 - columns).mean(0)
            share = ones / (ones + zeros)
            loss = -(torch.xlogy(ones, share) + torch.xlogy(zeros, 1 - share))
            if call.options.get("weight") is not None:
                return None
            if call.kind == "bce":
                return share, float(loss.mean())
            return (share.clamp_min(1e-18).log() - (1 - share).clamp_min(1e-18).log()).clamp(-FAR, FAR), float(
                loss.mean()
            )
        if call.kind == "mse":
            middle = columns.mean(0)
            return middle, float((columns - middle).square().mean())
        if call.kind == "l1":
            middle = columns.median(0).values
            return middle, float((columns - middle).abs().mean())
        if call.kind in ("huber", "smooth-l1"):
            limit = float(call.options.get("delta" if call.kind == "huber" else "beta", 1.0))
            middle = _m_estimate(columns, limit)
            value = call.function(
                middle.expand_as(columns), columns, **{"delta" if call.kind == "huber" else "beta": limit}
            )
            return middle, float(value)
        if call.kind == "poisson-nll":
            rate = columns.mean(0).clamp_min(1e-18)
            value = float((rate - columns * rate.log()).mean())
            return (rate.log() if call.options.get("log_input", True) else rate), value
    return None


def counted_weight(call: LossCall, target: Tensor, rows: int) -> float:
    """What torch divides a mean classification loss by: the summed weights of the labels, or the number of rows."""
    weight = call.options.get("weight")
    if weight is None or target.dtype.is_floating_point:
        return float(rows)
    labels = target.flatten()
    kept = labels[(labels != call.options.get("ignore_index", -100)) & (labels >= 0) & (labels < classes(call))]
    return float(weight.double()[kept].sum())


def columns_of(call: LossCall, target: Tensor) -> Tensor:
    """Targets as (rows, output columns) in float64: the last dimension of a 2-D target, one column otherwise."""
    values = target.double()
    if values.ndim == 2 and call.input.ndim == 2:
        return values
    return values.reshape(-1, 1)


def _m_estimate(columns: Tensor, limit: float) -> Tensor:
    """Huber's location estimate per column, by bisection on the sum of the clipped residuals (it falls with the location)."""
    low, high = columns.min(0).values, columns.max(0).values
    for _ in range(60):
        middle = (low + high) / 2
        above = (columns - middle).clamp(-limit, limit).sum(0) > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def plateaus(call: LossCall) -> tuple[Level, ...]:
    """Values at which training on this call's targets is known to stop when something is wrong, lowest first."""
    found: list[Level] = []
    with torch.no_grad():
        constant = best_constant(call)
        total = reduced(call.value) / per_element(call) if per_element(call) else 0.0
        if constant is not None and math.isfinite(total) and total > 0:
            words = {
                "cross-entropy": "the entropy of the labels' shares",
                "nll": "the entropy of the labels' shares",
                "bce": "the entropy of the label rates",
                "bce-with-logits": "the entropy of the label rates",
                "mse": "the variance of the targets",
                "l1": "the mean absolute deviation of the targets",
            }.get(call.kind, "the loss of the best constant")
            found.append(
                Level(
                    name="constant predictions",
                    value=constant[1] * total,
                    check="input-baseline",
                    why=f"{words}: the input is ignored, or the targets are broadcast against the predictions",
                )
            )
        if call.kind == "cross-entropy" and not soft_targets(call):
            count = classes(call)
            known = F.one_hot(call.target.detach().clamp(0, count - 1), count).to(call.input.dtype)
            ideal = known.movedim(-1, 1) if call.target.ndim else known
            found.append(
                Level(
                    name="softmax or sigmoid before cross-entropy",
                    value=reduced(call.again(ideal)),
                    check="double-softmax",
                    why=f"ln(1 + (C-1)/e) with C = {count}: what inputs confined to [0, 1] can reach",
                )
            )
            found.append(
                Level(
                    name="chance",
                    value=reduced(call.again(torch.zeros_like(call.input))),
                    check="loss-at-init",
                    why=f"ln C with C = {count}: all classes equally likely",
                )
            )
        if call.kind == "bce-with-logits":
            ideal = call.target.detach().to(call.input.dtype).clamp(0, 1).expand_as(call.input)
            found.append(
                Level(
                    name="sigmoid before BCE-with-logits",
                    value=reduced(call.again(ideal)),
                    check="double-softmax",
                    why="0.3133 for positives, 0.6931 for negatives: what logits confined to [0, 1] can reach",
                )
            )
        if call.kind in ("bce", "bce-with-logits", "cross-entropy", "nll") and total > 0 and math.isfinite(total):
            found.append(
                Level(
                    name="ln 2",
                    value=math.log(2) * total,
                    why="two answers equally likely: the same inputs carry contradicting labels, or chance for two classes",
                )
            )
    return tuple(sorted(found, key=lambda level: level.value))
