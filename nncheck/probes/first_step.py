"""One training step as the user would take it: does it run, what does it give, is everything finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck import batch as batches
from nncheck.registry import probe
from nncheck.sandbox import Sandbox
from nncheck.source import layer_place
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class FirstStep:
    """The first forward and backward pass in train mode.

    loss: its value. connected: whether it has a gradient. batch, output: what went in and came out, in words.
    bad_inputs, bad_parameters, bad_gradients: names of tensors that hold NaN or Inf.
    bad_layer: the first layer whose output is not finite although its inputs are.
    """

    loss: float
    connected: bool
    batch: str
    output: str
    losses: tuple[str, ...]
    loss_place: Place | None
    bad_inputs: tuple[str, ...]
    bad_parameters: tuple[str, ...]
    bad_layer: Place | None
    bad_gradients: tuple[str, ...]


@probe
def first_step(sandbox: Sandbox) -> FirstStep:
    """One forward and one backward on the first batch."""
    batch = sandbox.feed.first
    bad: list[Place] = []

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not bad and not finite(output) and finite(inputs):
            bad.append(layer_place(sandbox.model, name or type(module).__name__, detail=type(module).__name__))

    with sandbox.trial():
        outcome = sandbox.forward(batch, modules=(look,))
        connected = outcome.loss.requires_grad
        if connected:
            sandbox.backward(outcome.loss, batch)
        named = list(sandbox.model.named_parameters())
        bad_gradients = tuple(n for n, p in named if p.grad is not None and not finite(p.grad))
        return FirstStep(
            loss=float(outcome.loss.detach()),
            connected=connected,
            batch=batches.describe(batch),
            output="nothing seen" if outcome.output is None else batches.describe(outcome.output),
            losses=tuple(call.kind for call in outcome.calls),
            loss_place=outcome.calls[-1].place if outcome.calls else None,
            bad_inputs=tuple(n or "the input" for n, t in batches.named_tensors(batch) if not finite(t)),
            bad_parameters=tuple(n for n, p in named if not finite(p)),
            bad_layer=bad[0] if bad else None,
            bad_gradients=bad_gradients,
        )


def finite(value: Any) -> bool:
    """Whether every floating-point tensor in a value is free of NaN and Inf."""
    return all(
        bool(torch.isfinite(t.detach()).all())
        for _, t in batches.named_tensors(value)
        if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex()) and t.layout is torch.strided
    )
