"""What a loss would be if its labels were drawn anew from all the labels seen: without the luck of one batch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import CLASSIFICATION, LossCall, classes, soft_targets, target_distribution
from nncheck.losses.levels import columns_of, counted_weight

# Inputs and targets agree, both standardised, up to float32's rounding; fewer values may agree by chance.
SAME = 1e-3
FEWEST = 16
# A vocabulary and the head over it differ by padding and a few special symbols.
SPECIAL = 8
# A categorical column may have as many values as there are classes; for one prediction a sample, fewer are no vocabulary.
FEW = 10


def rows_of(call: LossCall, input: Tensor | None = None) -> Tensor:
    """The outputs as (predictions, classes or columns)."""
    values = (call.input if input is None else input).detach().double()
    if call.kind in CLASSIFICATION and values.ndim > 1:
        return values.movedim(1, -1).reshape(-1, classes(call))
    return values if values.ndim == 2 and call.target.ndim == 2 else values.reshape(-1, 1)


def drawn_anew(call: LossCall, target: Tensor, input: Tensor | None = None) -> float:
    """The mean loss of these outputs against labels drawn from `target`, whichever sample they are of: what outputs that do
    not know the labels have to expect. NaN where it is not known."""
    with torch.no_grad():
        outputs = rows_of(call, input)
        if call.kind in CLASSIFICATION:
            wanted = target_distribution(call, target)
            logs = outputs if call.kind == "nll" else outputs.log_softmax(-1)
            if logs.size(-1) != wanted.size(-1) or not len(wanted):
                return math.nan
            return float(-(wanted.sum(0) * logs.mean(0)).sum()) / counted_weight(call, target, len(wanted))
        if call.kind not in ("bce", "bce-with-logits"):
            return math.nan
        columns = columns_of(call, target)
        if columns.size(1) != outputs.size(1):
            return math.nan
        if call.kind == "bce":  # torch keeps the logarithms above -100
            ones, zeros = -outputs.log().clamp_min(-100).mean(0), -(1 - outputs).log().clamp_min(-100).mean(0)
        else:
            ones, zeros = F.softplus(-outputs).mean(0), F.softplus(outputs).mean(0)
        rates = columns.mean(0)
        return float((rates * _scale(call, ones) * ones + (1 - rates) * zeros).mean())


def error_of_constant(call: LossCall, target: Tensor, bias: Tensor) -> float:
    """The standard error of the best constant's loss over these labels."""
    with torch.no_grad():
        bias = bias.double()
        if call.kind in CLASSIFICATION:
            total = target_distribution(call, target).sum(0)
            shares = total / total.sum()
            values = -bias
            middle = (shares * values).sum()
            return math.sqrt(float((shares * (values - middle).square()).sum()) / max(1, target.numel()))
        columns = columns_of(call, target)
        rates = columns.mean(0)
        if call.kind == "bce":
            ones, zeros = -bias.log().clamp_min(-100), -(1 - bias).log().clamp_min(-100)
        else:
            ones, zeros = F.softplus(-bias), F.softplus(bias)
        spread = rates * (1 - rates) * (_scale(call, ones) * ones - zeros).square()
        return math.sqrt(float(spread.mean()) / max(1, target.numel()))


def _scale(call: LossCall, like: Tensor) -> Tensor:
    weight = call.options.get("pos_weight") if call.kind == "bce-with-logits" else None
    return torch.ones_like(like) if weight is None else weight.double().flatten()


def all_targets(sandbox: Sandbox, call: LossCall, labels: int, most: int) -> Tensor:
    """The loss's targets of up to `most` batches, enough for so many labels: the first batch's own, joined by those of further
    batches where the loss is seen to take the batch's labels as they are, or to translate each in one way (`y == 0`)."""
    own = call.target.detach()
    given = batches.split(sandbox.feed.first)[1]
    if not isinstance(given, Tensor) or not own.ndim or not given.numel() or own.numel() % given.numel():
        return own
    wanted = min(most, math.ceil(labels / max(1, own.numel())))
    as_is = given.numel() == own.numel() and torch.equal(given.flatten().to(own.dtype), own.flatten())
    table = None if as_is else _translation(given, own)
    if not as_is and table is None:
        return own
    joined = [own]
    for batch in sandbox.feed.take(wanted)[1:]:
        more = batches.split(batch)[1]
        if not isinstance(more, Tensor) or not more.ndim or not more.numel():
            continue
        try:
            values = more.to(own.dtype) if table is None else _translated(more, table)
            if values is None:
                return own
            joined.append(values.reshape(-1, *own.shape[1:]))
        except RuntimeError:
            return own
    return torch.cat(joined)


def _translation(given: Tensor, own: Tensor) -> tuple[Tensor, Tensor] | None:
    """(labels, what each becomes) if equal labels always become equal targets."""
    known, where = torch.unique(given.flatten(), return_inverse=True)
    rows = own.reshape(given.numel(), -1)
    table = rows.new_zeros((len(known), rows.size(1)))
    table[where] = rows
    return (known, table) if torch.equal(table[where], rows) else None


def _translated(labels: Tensor, table: tuple[Tensor, Tensor]) -> Tensor | None:
    known, rows = table
    flat = labels.flatten().to(known.dtype)
    where = torch.searchsorted(known, flat).clamp_max(len(known) - 1)
    return rows[where] if torch.equal(known[where], flat) else None


def unusual_target(sandbox: Sandbox, call: LossCall, data: list[Tensor]) -> str:
    """Why nobody sets the output bias by the frequency of these targets; "" if one may. `data`: what the layers were given."""
    target = call.target.detach()
    if call.kind in CLASSIFICATION and not soft_targets(call) and _own_vocabulary(sandbox, call):
        return "language model"
    if any(_same(target, tensor) for tensor in data) or any(
        _same(target, tensor) for _, tensor in batches.named_tensors(batches.split(sandbox.feed.first)[0])
    ):
        return "reconstruction"
    if call.kind in ("bce", "bce-with-logits") and bool(((target > 0) & (target < 1)).any()):
        return "soft targets"
    return ""


def _same(target: Tensor, data: Any) -> bool:
    """Whether a target holds what the model is given, scaled or shifted at most."""
    if not target.is_floating_point() or data.numel() != target.numel() or data.numel() < FEWEST or data.is_complex():
        return False
    one, other = target.flatten().float(), data.detach().flatten().to(target.device).float()
    one, other = ((v - v.mean()) / v.std().clamp_min(1e-12) for v in (one, other))
    return float((one - other).abs().max()) < SAME


def _own_vocabulary(sandbox: Sandbox, call: LossCall) -> bool:
    """Whether the classes are the symbols the model itself is given, as in a language model."""
    count = classes(call)
    if count < FEW and call.target.numel() <= batches.size(sandbox.feed.first):
        return False
    sizes = [m.num_embeddings for m in sandbox.model.modules() if isinstance(m, nn.Embedding)]
    return any(abs(size - count) <= max(SPECIAL, count // 10) for size in sizes)
