"""Sizes of many tensors at once: one batched pass and one copy to the host, however many parameters a model has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norms(tensors: Sequence[Tensor | None], order: float = 2.0) -> list[float | None]:
    """The norm of every tensor; None for None, 0 for an empty one. NaN and Inf come through."""
    present = [(i, _plain(t)) for i, t in enumerate(tensors) if t is not None]
    filled = [(i, t) for i, t in present if t.numel()]
    result: list[float | None] = [None if t is None else 0.0 for t in tensors]
    if not filled:
        return result
    with torch.no_grad():
        values = torch._foreach_norm([t for _, t in filled], order)
        device = values[0].device
        host = torch.stack([v.to(device=device, dtype=torch.float64 if device.type != "mps" else None) for v in values])
    for (i, _), value in zip(filled, host.tolist(), strict=True):
        result[i] = float(value)
    return result


def peaks(tensors: Sequence[Tensor | None]) -> list[float | None]:
    """The largest magnitude in every tensor: exactly 0 only if all of it is, never overflowing as a sum of squares may."""
    return norms(tensors, float("inf"))


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor.to_dense()
    # Squares overflow early in half precision.
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
