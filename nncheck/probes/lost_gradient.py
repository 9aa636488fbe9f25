"""Between output and loss: is the loss still the one computed, and does something there stop the gradient by its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall
from nncheck.observe.graph import leaves
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

_CLAMPS = frozenset({"clamp", "clamp_", "clip", "clip_", "clamp_max", "clamp_max_", "hardtanh"})
# Values that a clamp is looked at for; a model may clamp in every layer.
_KEPT = 16


@dataclass(frozen=True, kw_only=True)
class ClampedLoss:
    """A clamp whose results are averaged or summed into the loss, each with the same weight: the losses of the samples.

    over: how many of `count` losses lie above the `bound`, where the gradient is zero.
    """

    bound: float
    over: int
    count: int
    place: Place


@dataclass(frozen=True, kw_only=True)
class LostGradient:
    """rewrapped: where a loss without history was made into a new leaf that requires a gradient.
    one_class: where a cross-entropy over a single class is called. squeezed: share of the scores given to a binary
    cross-entropy that are exactly 0 or 1; squeezed_at: the clamp that made them so, if one did.
    loss: the value. clamped: losses that a clamp cuts off.
    """

    loss: float
    connected: bool
    rewrapped: bool
    one_class: Place | None
    squeezed: float
    squeezed_at: Place | None
    loss_place: Place | None
    clamped: tuple[ClampedLoss, ...]


@probe
def lost_gradient(sandbox: Sandbox) -> LostGradient:
    """One forward; a backward only if something after the model is clamped from above."""
    batch = sandbox.feed.first
    clamps: list[tuple[Call, float, Place, Tensor]] = []
    made: list[Place] = []

    def see(call: Call) -> None:
        if call.name in _CLAMPS and isinstance(call.result, Tensor) and call.result.requires_grad:
            bound = _upper(call)
            if bound is not None and len(clamps) < _KEPT and not call.layer:
                clamps.append((call, bound, call.place(), call.args[0].detach().clone()))
        elif call.name in ("tensor", "as_tensor", "requires_grad_") and isinstance(call.result, Tensor):
            made.append(call.place())

    with sandbox.trial():
        outcome = sandbox.forward(batch, calls=(see,))
        loss = outcome.loss
        single = next((c for c in outcome.calls if c.kind == "cross-entropy" and _classes(c) == 1), None)
        squeezed, at = _squeezed(outcome.calls, clamps)
        found: list[ClampedLoss] = []
        if loss.requires_grad and loss.grad_fn is not None and clamps:
            results = [call.result for call, *_ in clamps]
            grads = sandbox.grad(loss, results, batch)
            for (_, bound, place, value), grad in zip(clamps, grads, strict=True):
                if grad is None or not bool((grad > 0).all()) or not bool(torch.isclose(grad, grad.flatten()[0]).all()):
                    continue
                over = int((value > bound).sum())
                found.append(ClampedLoss(bound=bound, over=over, count=value.numel(), place=place))
        reached = leaves(loss)
        parameters = {id(p) for p in sandbox.model.parameters()}
        # A leaf by itself, that is no parameter: its history ended where it was made.
        rewrapped = loss.requires_grad and loss.grad_fn is None and id(loss) not in parameters
        rewrapped |= loss.requires_grad and len(reached) == 1 and not reached.keys() & parameters and bool(made)
        return LostGradient(
            loss=float(loss.detach()),
            connected=loss.requires_grad,
            rewrapped=rewrapped,
            one_class=single.place if single else None,
            squeezed=squeezed,
            squeezed_at=at,
            loss_place=made[-1] if made and rewrapped else (outcome.calls[-1].place if outcome.calls else None),
            clamped=tuple(found),
        )


def _classes(call: LossCall) -> int:
    return call.input.size(1) if call.input.ndim > 1 else call.input.size(0)


def _upper(call: Call) -> float | None:
    arguments: dict[str, Any] = dict(zip(("input", "min", "max"), call.args, strict=False)) | call.kwargs
    if call.name.startswith("clamp_max"):
        arguments["max"] = arguments.get("max", arguments.get("min"))
    if call.name == "hardtanh":
        arguments["max"] = call.kwargs.get("max_val", call.args[2] if len(call.args) > 2 else 1.0)
    bound = arguments.get("max")
    return float(bound) if isinstance(bound, (int, float)) else None


def _squeezed(
    calls: tuple[LossCall, ...], clamps: list[tuple[Call, float, Place, Tensor]]
) -> tuple[float, Place | None]:
    shares: Callable[[Tensor], float] = lambda t: float(((t == 0) | (t == 1)).float().mean())  # noqa: E731
    scores = [c for c in calls if c.kind == "bce" and c.input.requires_grad and c.input.numel()]
    if not scores:
        return 0.0, None
    worst = max(scores, key=lambda c: shares(c.input.detach()))
    share = shares(worst.input.detach())
    at = next((p for c, _, p, _ in reversed(clamps) if c.result.numel() == worst.input.numel()), None)
    return share, at or worst.place
