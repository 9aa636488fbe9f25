"""How noisy the gradient of a batch is: the batch size at which noise and signal are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.micro import splits
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything

# Parts a batch is cut into: the gradient of one part against that of all of them.
PARTS = 4


@dataclass(frozen=True, kw_only=True)
class GradientNoise:
    """McCandlish et al. (2018), appendix A: squared gradient norms at two sample counts, without bias.

    signal: the squared norm of the true gradient. noise: the summed variance of one sample's gradient. Either may come out
    below zero when it is small.
    """

    signal: float
    noise: float

    @property
    def batch(self) -> float | None:
        """The batch size at which noise and signal are equal; None where the signal is lost in the noise."""
        return self.noise / self.signal if self.signal > 0 and self.noise > 0 else None


def gradient_noise(sandbox: Sandbox, given: Sequence[Any], tensors: list[Tensor]) -> GradientNoise | None:
    """From the gradients of equal parts of `given` at the present weights; None with fewer than four parts."""
    parts: list[Any] = []
    for batch in given:
        size = batches.size(batch)
        if not splits(batch):
            parts.append(batch)
            continue
        each = max(1, size // PARTS)
        order = torch.arange(size - size % each)
        parts += [batches.take(batch, chosen) for chosen in torch.split(order, each)]
    small = batches.size(parts[0]) if parts else 0
    parts = [part for part in parts if batches.size(part) == small]
    if len(parts) < PARTS:
        return None
    total: list[Tensor] = []
    squares: list[float] = []
    for index, part in enumerate(parts):
        for p in tensors:
            p.grad = None
        seed_everything(sandbox.seed + 1 + index)
        try:
            sandbox.backward(sandbox.forward(part).loss, part)
        except (RuntimeError, CannotMeasure):
            return None
        gradients = [p.grad.detach() for p in tensors if p.grad is not None and p.grad.layout is torch.strided]
        if not gradients or (total and len(gradients) != len(total)):
            return None
        squares.append(float(torch.stack(list(torch._foreach_norm(gradients))).double().square().sum()))
        if total:
            torch._foreach_add_(total, gradients)
        else:
            total = [g.clone() for g in gradients]
    torch._foreach_div_(total, len(parts))
    whole = float(torch.stack(list(torch._foreach_norm(total))).double().square().sum())
    mean = sum(squares) / len(squares)
    large = small * len(parts)
    return GradientNoise(
        signal=(large * whole - small * mean) / (large - small),
        noise=(mean - whole) / (1 / small - 1 / large),
    )
