"""The batch as the network is given it, as pictures, numbers or tokens that a person can look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.verdict import Sample, Samples

# A thumbnail of at most this many pixels a side; larger images are thinned.
SIDE = 48
SHOWN = 16


def preview(given: Any, batch: Any, count: int = SHOWN) -> Samples | None:
    """The first samples of what the model was called with (`given`), captioned with the target in `batch`.

    None if there is no tensor to show.
    """
    size = batches.size(batch)
    found = [(n, t) for n, t in batches.named_tensors(given) if t.ndim and size in t.shape]
    if not found:
        return None
    name, tensor = found[0]
    dim = tuple(tensor.shape).index(size)
    rows = tensor.detach().movedim(dim, 0)[:count].cpu()
    targets = _targets(batches.split(batch)[1], size, len(rows))
    samples = tuple(
        Sample(caption=f"target {target}" if target else f"sample {i}", pixels=_pixels(row), text=_text(row))
        for i, (row, target) in enumerate(zip(rows, targets, strict=True))
    )
    real = tensor.detach()
    real = real.float() if real.dtype.is_floating_point or not real.is_complex() else real.abs()
    numbers = f"from {float(real.min()):.3g} to {float(real.max()):.3g}, mean {float(real.mean()):.3g}"
    what = batches.describe_tensor(tensor)
    return Samples(
        title=f"What the network sees: {name or 'input'}, {what}, {numbers}, std {float(real.std(correction=0)):.3g}",
        samples=samples,
    )


def _pixels(row: Tensor) -> tuple[tuple[Any, ...], ...] | None:
    if row.is_complex() or not (row.dtype.is_floating_point or row.dtype is torch.uint8):
        return None
    if row.ndim == 3 and row.size(-1) in (1, 3) and row.size(0) not in (1, 3):
        row = row.movedim(-1, 0)
    if row.ndim == 2 and min(row.shape) >= 6:
        row = row[None]
    if row.ndim != 3 or row.size(0) not in (1, 3) or min(row.shape[1:]) < 2:
        return None
    step = max(1, -(-max(row.shape[1:]) // SIDE))
    row = row[:, ::step, ::step].float().nan_to_num()
    low, high = row.min(), row.max()
    grey = ((row - low) / (high - low).clamp_min(1e-12) * 255).round().int()
    if len(grey) == 1:
        return tuple(tuple(line) for line in grey[0].tolist())
    return tuple(tuple(tuple(pixel) for pixel in line) for line in grey.permute(1, 2, 0).tolist())


def _text(row: Tensor) -> str:
    flat = row.flatten()
    shown = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in flat[:12].tolist()]
    return " ".join(shown) + (f" … ({flat.numel()} values)" if flat.numel() > 12 else "")


def _targets(target: Any, size: int, count: int) -> list[str]:
    found = [t for _, t in batches.named_tensors(target) if t.ndim and t.size(0) == size]
    if not found:
        return [""] * count
    return [_text(row).strip() if row.numel() <= 12 else batches.describe_tensor(row) for row in found[0][:count].cpu()]
