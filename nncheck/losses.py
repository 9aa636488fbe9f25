"""The loss that was really called: kind, arguments and value, as seen by the watch, through any framework."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nncheck.verdict import Place
from nncheck.watch import Call

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


_PAIRS = {"input", "target"}


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
            plain = call.again(input, target, reduction="none", weight=None).flatten()
            if target.dtype.is_floating_point and target.shape == input.shape:  # soft targets
                weight = call.options.get("weight")
                if weight is not None:
                    plain = call.again(input, target, reduction="none").flatten()
                return plain, torch.ones_like(plain)
            labels = target.flatten()
            kept = labels != call.options.get("ignore_index", -100)
            weight = call.options.get("weight")
            weights = torch.ones_like(plain) if weight is None else torch.zeros_like(plain)
            if weight is not None:
                weights[kept] = weight.to(plain.dtype)[labels[kept]]
            return plain[kept], weights[kept]
        plain = call.again(input, target, reduction="none").flatten()
        return plain, torch.ones_like(plain)
