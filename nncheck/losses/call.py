"""The loss that was really called: kind, arguments and value, as seen by the watch, through any framework."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nncheck.observe.watch import Call
from nncheck.verdict import Place

KINDS: dict[Any, str] = {
    F.cross_entropy: "cross-entropy",
    F.nll_loss: "nll",
    F.binary_cross_entropy: "bce",
    F.binary_cross_entropy_with_logits: "bce-with-logits",
    F.mse_loss: "mse",
    F.l1_loss: "l1",
    F.smooth_l1_loss: "smooth-l1",
    F.huber_loss: "huber",
    F.kl_div: "kl-div",
    F.multi_margin_loss: "multi-margin",
    F.multilabel_margin_loss: "multilabel-margin",
    F.multilabel_soft_margin_loss: "multilabel-soft-margin",
    F.soft_margin_loss: "soft-margin",
    F.poisson_nll_loss: "poisson-nll",
    F.gaussian_nll_loss: "gaussian-nll",
    F.hinge_embedding_loss: "hinge-embedding",
    F.cosine_embedding_loss: "cosine-embedding",
    F.margin_ranking_loss: "margin-ranking",
    F.triplet_margin_loss: "triplet-margin",
    F.ctc_loss: "ctc",
}
"""torch's loss functions by our name for them; the loss modules call these."""

_SIGNATURES = {function: inspect.signature(function) for function in KINDS}


@dataclass(frozen=True, kw_only=True)
class LossCall:
    """One call of a torch loss function. Tensors are the user's own (the input with its graph); never kept in evidence.

    `options`: every other argument by name, defaults filled in (weight, ignore_index, reduction, label_smoothing, ...).
    """

    kind: str
    function: Callable[..., Any]
    input: Tensor
    target: Tensor
    options: dict[str, Any] = field(default_factory=dict)
    value: Tensor
    place: Place
    layer: str

    @property
    def reduction(self) -> str:
        return str(self.options.get("reduction", "mean"))

    def again(self, input: Tensor | None = None, target: Tensor | None = None, **changed: Any) -> Tensor:
        """The same loss on another input or target, or with other options."""
        options = {**self.options, **changed}
        arguments = dict(options)
        arguments["input"] = self.input if input is None else input
        arguments["target"] = self.target if target is None else target
        if self.function is F.gaussian_nll_loss:
            arguments["var"] = options["var"]
        result: Tensor = self.function(**arguments)
        return result


def place_of(call: LossCall, origins: Mapping[str, Place]) -> Place:
    """The user's line of a loss call; where a loss object of torch's is called by us, the line that binds it."""
    return call.place if call.place.file else origins.get("loss_fn", call.place)


_PAIRS = {"input", "target"}
# The same either way round: the prediction is the one with a gradient.
_SYMMETRIC = frozenset({"mse", "l1", "smooth-l1", "huber"})


def loss_call(call: Call) -> LossCall | None:
    """The call as a `LossCall`, or None if it is no loss of torch's or has no input/target pair."""
    kind = KINDS.get(call.function)
    if kind is None or not isinstance(call.result, Tensor):
        return None
    bound = _SIGNATURES[call.function].bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    options = dict(bound.arguments)
    if not set(options) >= _PAIRS:
        return None
    input, target = options.pop("input"), options.pop("target")
    if kind in _SYMMETRIC and target.requires_grad and not input.requires_grad:
        input, target = target, input  # `mse_loss(x, model(x))`
    # size_average and reduce are the old spelling of reduction.
    if options.get("size_average") is not None or options.get("reduce") is not None:
        average, reduce = options.get("size_average"), options.get("reduce")
        options["reduction"] = "none" if reduce is False else ("sum" if average is False else "mean")
    options.pop("size_average", None)
    options.pop("reduce", None)
    return LossCall(
        kind=kind,
        function=call.function,
        input=input,
        target=target,
        options=options,
        value=call.result,
        place=call.place(),
        layer=call.layer,
    )


def elements(call: LossCall) -> tuple[Tensor, Tensor]:
    """The loss taken apart: (values, weights), both 1-D, so that the mean-reduced loss is sum(values * weights) / sum(weights).

    One element per counted prediction (sample, token or pixel; ignored targets are left out), in order. Class weights are in
    `weights`, not in `values`; label smoothing, pos_weight and the like are in `values`.
    Detached, on the loss's device.
    """
    with torch.no_grad():
        input, target = call.input.detach(), call.target.detach()
        if call.kind in ("cross-entropy", "nll"):
            plain = call.again(input, target, reduction="none").flatten()
            if soft_targets(call):
                return plain, torch.ones_like(plain)
            weight, labels = call.options.get("weight"), target.flatten()
            kept = labels != call.options.get("ignore_index", -100)
            if weight is None:
                return plain[kept], torch.ones_like(plain[kept])
            weights = weight.to(plain.dtype)[labels[kept]]
            # Under label smoothing torch weighs every class's share, so the weight is divided out, not left out.
            return plain[kept] / weights.clamp_min(torch.finfo(plain.dtype).tiny), weights
        plain = call.again(input, target, reduction="none").flatten()
        return plain, torch.ones_like(plain)


# Where an ideal logit would be infinite, this stands in: exp(-40) is below float32's rounding of any loss.
FAR = 40.0

REGRESSION = frozenset({"mse", "l1", "smooth-l1", "huber", "poisson-nll", "gaussian-nll"})
CLASSIFICATION = frozenset({"cross-entropy", "nll"})
_FLOOR_ZERO = {
    "mse": "every prediction right",
    "l1": "every prediction right",
    "smooth-l1": "every prediction right",
    "huber": "every prediction right",
    "multi-margin": "every margin kept",
    "multilabel-margin": "every margin kept",
    "multilabel-soft-margin": "every label certain and right",
    "soft-margin": "every label certain and right",
    "hinge-embedding": "every margin kept",
    "cosine-embedding": "every pair right",
    "margin-ranking": "every pair in order",
    "triplet-margin": "every margin kept",
}


def reduced(value: Tensor) -> float:
    """A loss as one number; an unreduced one by its mean."""
    return float(value.detach().double().mean())


def classes(call: LossCall) -> int:
    """The number of classes of a classification loss."""
    return call.input.size(1 if call.input.ndim > 1 else 0)


def soft_targets(call: LossCall) -> bool:
    """Whether a classification loss was given probabilities as targets."""
    return call.target.dtype.is_floating_point and call.target.shape == call.input.shape


def target_distribution(call: LossCall, target: Tensor | None = None) -> Tensor:
    """What a classification loss asks for as probabilities: (N, C) rows, smoothing in, ignored targets left out, class
    weights multiplied in (rows then need not sum to one)."""
    target = call.target if target is None else target
    count = classes(call)
    with torch.no_grad():
        weight = call.options.get("weight")
        if target.dtype.is_floating_point:
            rows = (
                target.detach().double().movedim(1, -1).reshape(-1, count) if target.ndim > 1 else target[None].double()
            )
        else:
            labels = target.detach().flatten()
            labels = labels[(labels != call.options.get("ignore_index", -100)) & (labels >= 0) & (labels < count)]
            rows = F.one_hot(labels.long(), count).double()
        smoothing = float(call.options.get("label_smoothing") or 0.0)
        rows = rows * (1 - smoothing) + smoothing / count
        return rows if weight is None else rows * weight.detach().double()


def entropy(rows: Tensor) -> Tensor:
    """Entropy of each row once scaled to sum to one, in nats."""
    rows = rows / rows.sum(-1, keepdim=True).clamp_min(1e-300)
    return -torch.xlogy(rows, rows).sum(-1)


def is_log_probabilities(input: Tensor) -> bool:
    """Whether the exponentials of each row (classes in dimension 1) sum to one."""
    with torch.no_grad():
        sums = torch.logsumexp(input.detach().double(), 1 if input.ndim > 1 else 0)
        return bool((sums.abs() < 1e-3).all())


def floor(call: LossCall) -> tuple[float, str] | None:
    """The lowest value this call can reach with these targets, in its own reduction, and why; None if it has none or it is
    not known. An unreduced call is taken by its mean."""
    with torch.no_grad():
        if call.kind == "cross-entropy":
            smoothing = float(call.options.get("label_smoothing") or 0.0)
            if not soft_targets(call):
                if not smoothing:
                    return 0.0, "every prediction certain and right"
                return reduced(call.again(_ideal_hard(call, smoothing))), f"label smoothing {smoothing:g}"
            return reduced(call.again(_ideal_soft(call, smoothing))), "the entropy of the soft targets"
        if call.kind == "nll":
            return (0.0, "every prediction certain and right") if is_log_probabilities(call.input) else None
        if call.kind in ("bce", "bce-with-logits"):
            return _bce_floor(call)
        if call.kind in _FLOOR_ZERO:
            return 0.0, _FLOOR_ZERO[call.kind]
        if call.kind == "kl-div":
            wanted = (
                call.target.detach() if call.options.get("log_target") else call.target.detach().clamp_min(1e-30).log()
            )
            return reduced(call.again(wanted)), "predictions equal to the targets"
        if call.kind == "poisson-nll":
            wanted = call.target.detach().to(call.input.dtype)
            wanted = wanted.clamp_min(math.exp(-FAR)).log() if call.options.get("log_input", True) else wanted
            return reduced(call.again(wanted.expand_as(call.input))), "every rate right"
        if call.kind == "gaussian-nll":
            variance = call.options["var"]
            if isinstance(variance, Tensor) and variance.requires_grad:
                return None
            return reduced(call.again(call.target.detach().expand_as(call.input))), "every mean right at this variance"
    return None


def _ideal_hard(call: LossCall, smoothing: float) -> Tensor:
    """Logits that give the smoothed labels back: log of (weighted) target probabilities."""
    count = classes(call)
    labels = call.target.detach()
    known = labels.clamp(0, count - 1)  # ignored targets count for nothing, whatever stands there
    rows = F.one_hot(known, count).to(call.input.dtype) * (1 - smoothing) + smoothing / count
    return _as_logits(call, rows.movedim(-1, 1) if labels.ndim else rows)


def _ideal_soft(call: LossCall, smoothing: float) -> Tensor:
    rows = call.target.detach().to(call.input.dtype) * (1 - smoothing) + smoothing / classes(call)
    return _as_logits(call, rows)


def _as_logits(call: LossCall, rows: Tensor) -> Tensor:
    weight = call.options.get("weight")
    if weight is not None:
        shape = [1] * rows.ndim
        shape[1 if rows.ndim > 1 else 0] = -1
        rows = rows * weight.to(rows.dtype).view(shape)
    return rows.clamp_min(math.exp(-FAR)).log()


def _bce_floor(call: LossCall) -> tuple[float, str] | None:
    target = call.target.detach().to(call.input.dtype)
    if bool(((target < 0) | (target > 1)).any()):
        return None  # unbounded below
    if call.kind == "bce":
        wanted = target
    else:
        positive = call.options.get("pos_weight")
        scaled = target if positive is None else target * positive
        wanted = (scaled.clamp_min(1e-18).log() - (1 - target).clamp_min(1e-18).log()).clamp(-FAR, FAR)
    hard = bool(((target == 0) | (target == 1)).all())
    value = 0.0 if hard else reduced(call.again(wanted.expand_as(call.input)))
    return value, "every label certain and right" if hard else "the entropy of the soft targets"


def per_element(call: LossCall) -> float:
    """The loss per counted element, whatever the call's reduction: the weighted mean of `elements`."""
    values, weights = elements(call)
    divisor = float(weights.double().sum())
    return float((values.double() * weights.double()).sum()) / divisor if divisor else float("nan")
