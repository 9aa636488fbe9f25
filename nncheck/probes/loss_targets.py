"""What the losses that are really called get as targets, with which options, and which tensor of the batch that is."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import CLASSIFICATION, LossCall, classes, place_of, soft_targets
from nncheck.observe.entrances import Entrances
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Different values of a target that are told apart: those of flags, marks and grades.
MOST_DISTINCT = 64
# Class weights written down; a vocabulary's are not read by anybody.
MOST_WEIGHTS = 4096

_CTC = inspect.signature(F.ctc_loss)


@dataclass(frozen=True, kw_only=True)
class LossTarget:
    """One call of a torch loss, in the first batch.

    kind: of the loss. place: the user's line. roots: the batch's tensors its target was made of; own: the one that holds the very
    same values, "" if none does. connected: whether its input has a gradient. several: more than one prediction a sample.
    classes: of a classification loss, else 0. ignore_index: of a classification loss with integer targets, else None.
    weights, pos_weight: class weights and those of positives, empty if there are none.
    soft: targets are shares of classes. dtype, shape: of the target. low, high, mean, std, whole (share of whole numbers),
    distinct (ascending; empty if there are many): of its values. root_whole: share of whole numbers in the tensor it was made of.
    to_one, all_zero: shares of the rows of soft targets that sum to one, and that are zero; low_sum, high_sum: range of sums.
    inner: share of ignored positions between the first and the last counted one of (N, T) targets; NaN if unknown.
    output_mean, output_std: of the input of the loss.
    """

    kind: str
    place: Place
    roots: tuple[str, ...]
    own: str
    connected: bool
    several: bool
    classes: int
    ignore_index: int | None
    reduction: str
    weights: tuple[float, ...]
    pos_weight: tuple[float, ...]
    smoothing: float
    soft: bool
    dtype: str
    integer: bool
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    std: float
    whole: float
    distinct: tuple[float, ...]
    root_whole: float
    to_one: float
    all_zero: float
    low_sum: float
    high_sum: float
    inner: float
    output_mean: float
    output_std: float


@dataclass(frozen=True, kw_only=True)
class CtcTarget:
    """One call of CTC: how many of its labels, within their lengths, are the blank; and how many there are."""

    place: Place
    blank: int
    blanks: int
    labels: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class LossTargets:
    """Every call in order. size: samples in the batch.

    vocabulary: rows of the first embedding, 0 if there is none.
    last_token: an id that is never to be predicted although it is the last real token of most sequences; None if there is none.
    """

    calls: tuple[LossTarget, ...]
    ctc: tuple[CtcTarget, ...]
    size: int
    vocabulary: int
    last_token: int | None


@probe
def loss_targets(sandbox: Sandbox) -> LossTargets:
    """One forward pass to the loss."""
    batch = sandbox.feed.first
    ctc: list[CtcTarget] = []

    def see_ctc(call: Call) -> None:
        if call.function is F.ctc_loss:
            ctc.append(_ctc(call))

    with sandbox.trial():
        seen = Entrances(model=sandbox.model, batch=batch)
        outcome = sandbox.forward(batch, calls=(seen.see, see_ctc))
        tensors = dict(batches.named_tensors(batch))
        size = batches.size(batch)
        calls = tuple(
            _target(call, seen.roots_of(call.target), tensors, size, place_of(call, sandbox.setup.origins))
            for call in outcome.calls
        )
        vocabulary = next((entrance.width for entrance in seen.found if entrance.kind == "embedding"), 0)
        return LossTargets(
            calls=calls, ctc=tuple(ctc), size=size, vocabulary=vocabulary, last_token=_last_token(tensors)
        )


def _target(call: LossCall, roots: tuple[str, ...], tensors: dict[str, Tensor], size: int, place: Place) -> LossTarget:
    target = call.target.detach()
    classification = call.kind in CLASSIFICATION
    soft = classification and soft_targets(call)
    integer = not target.is_floating_point() and not target.is_complex()
    ignore = call.options.get("ignore_index") if classification and not soft else None
    values = target.double().flatten()
    values = values[torch.isfinite(values)]
    counted = values[values != ignore] if ignore is not None else values
    counted = counted if counted.numel() else values.new_full((1,), math.nan)
    different = torch.unique(counted)
    rows = target.double().movedim(1, -1).flatten(0, -2) if soft and target.ndim > 1 else None
    sums = rows.sum(1) if rows is not None and rows.numel() else None
    root = tensors.get(roots[0]) if len(roots) == 1 else None
    output = call.input.detach().double()
    return LossTarget(
        kind=call.kind,
        place=place,
        roots=roots,
        own=next((name for name in roots if _same(target, tensors[name])), ""),
        connected=call.input.requires_grad,
        several=(target.numel() / max(1, target.size(1)) if soft else target.numel()) > size,
        classes=classes(call) if classification or call.kind == "multi-margin" else 0,
        ignore_index=int(ignore) if ignore is not None else None,
        reduction=call.reduction,
        weights=_numbers(call.options.get("weight")) if classification else (),
        pos_weight=_numbers(call.options.get("pos_weight")),
        smoothing=float(call.options.get("label_smoothing") or 0.0),
        soft=soft,
        dtype=str(target.dtype).removeprefix("torch."),
        integer=integer,
        shape=tuple(target.shape),
        low=float(counted.min()),
        high=float(counted.max()),
        mean=float(counted.mean()),
        std=float(counted.std(correction=0)),
        whole=float((counted == counted.round()).double().mean()),
        distinct=tuple(different.tolist()) if different.numel() <= MOST_DISTINCT else (),
        root_whole=_whole(root),
        to_one=float(((sums - 1).abs() <= 1e-3).double().mean()) if sums is not None else math.nan,
        all_zero=float((rows == 0).all(1).double().mean()) if rows is not None and sums is not None else math.nan,
        low_sum=float(sums.min()) if sums is not None else math.nan,
        high_sum=float(sums.max()) if sums is not None else math.nan,
        inner=_inner(target, ignore) if ignore is not None else math.nan,
        output_mean=float(output.mean()),
        output_std=float(output.std(correction=0)),
    )


def _same(target: Tensor, root: Tensor) -> bool:
    """Whether a target holds the values of a batch's tensor, whatever its shape and type."""
    if target.numel() != root.numel() or root.is_complex():
        return False
    return torch.equal(target.flatten().double().cpu(), root.detach().flatten().double().cpu())


def _numbers(weight: Any) -> tuple[float, ...]:
    if not isinstance(weight, Tensor) or weight.numel() > MOST_WEIGHTS:
        return ()
    return tuple(weight.detach().double().flatten().tolist())


def _whole(root: Tensor | None) -> float:
    if root is None or root.is_complex() or not root.numel():
        return math.nan
    values = root.detach().double()
    return float((values == values.round()).double().mean())


def _inner(target: Tensor, ignore: int) -> float:
    """Share of ignored positions among those between the first and the last counted one of (N, T) targets: none is padding."""
    if target.ndim != 2:
        return math.nan
    counted = (target != ignore).long()
    between = (counted.cumsum(1) > 0) & (counted.flip(1).cumsum(1).flip(1) > 0)
    return float(((target == ignore) & between).sum() / between.sum()) if bool(between.any()) else math.nan


def _last_token(tensors: dict[str, Tensor]) -> int | None:
    """The id that ends most sequences, if no label ever asks for it: padding that shares its id was masked out of the labels."""
    ids, labels, mask = (tensors.get(name) for name in ("input_ids", "labels", "attention_mask"))
    if ids is None or labels is None or mask is None or not ids.shape == labels.shape == mask.shape or ids.ndim != 2:
        return None
    counted = labels != -100
    if not bool(counted.any()) or not torch.equal(ids[counted], labels[counted]):
        return None
    real = mask.bool()
    hidden = ids[real & ~counted]
    if not hidden.numel() or bool((hidden != hidden[0]).any()) or bool((labels == hidden[0]).any()):
        return None
    place = torch.arange(ids.size(1), device=ids.device)
    last = torch.where(real, place, -1).amax(1).clamp_min(0)
    ends = ids.gather(1, last[:, None])[:, 0] == hidden[0]
    return int(hidden[0]) if float(ends.double().mean()) > 0.5 else None


def _ctc(call: Call) -> CtcTarget:
    bound = _CTC.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    given = bound.arguments
    blank, labels = int(given["blank"]), given["targets"].detach()
    if labels.ndim == 2:
        lengths = torch.as_tensor(given["target_lengths"], device=labels.device).reshape(-1, 1)
        inside = torch.arange(labels.size(1), device=labels.device) < lengths
        labels = labels[inside]
    return CtcTarget(
        place=call.place(),
        blank=blank,
        blanks=int((labels == blank).sum()),
        labels=labels.numel(),
        classes=int(given["log_probs"].size(-1)),
    )
