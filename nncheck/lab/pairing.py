"""Batches whose inputs say nothing of their targets: inputs made constant, or taken from other samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches


def constant_inputs(batch: Any, reference: Any) -> Any:
    """The batch with every sample's input the same: floats their mean over the reference batch, integers its first sample."""
    size = batches.size(batch)
    known = dict(input_tensors(reference))
    count = batches.size(reference)

    def alike(name: str, tensor: Tensor, dim: int) -> bool:
        source = known.get(name)
        return source is not None and _dim(source, count) == dim and _tail(source, dim) == _tail(tensor, dim)

    # Batches of several lengths: each stands for itself, its lengths and masks with it.
    varied = [(n, t, d) for n, t in input_tensors(batch) if (d := _dim(t, size)) is not None]
    fits = all(alike(*one) for one in varied)

    def change(name: str, tensor: Tensor) -> Tensor:
        dim = _dim(tensor, size)
        if dim is None:
            return tensor
        source = known[name] if fits else tensor
        real = tensor.dtype.is_floating_point or tensor.is_complex()
        same = source.mean(dim, keepdim=True) if real else source.narrow(dim, 0, 1)
        return same.expand_as(tensor).to(tensor.dtype).clone()

    return batches.with_inputs(batch, change)


def permuted_inputs(batch: Any, donor: Any) -> Any:
    """The batch with the inputs of other samples: those of `donor` where they have the same shape, else its own moved on by one."""
    size = batches.size(batch)
    given = dict(input_tensors(donor))
    alike = all(n in given and given[n].shape == t.shape for n, t in input_tensors(batch) if _dim(t, size) is not None)

    def change(name: str, tensor: Tensor) -> Tensor:
        dim = _dim(tensor, size)
        if dim is None:
            return tensor
        return given[name].to(tensor.dtype) if alike else tensor.roll(1, dim)

    return batches.with_inputs(batch, change)


def other_targets(batch: Any, donor: Any) -> Any | None:
    """The batch with the targets of `donor` and its own inputs; None if it has no target or the shapes differ."""
    if isinstance(batch, (list, tuple)) and not hasattr(batch, "_fields") and len(batch) >= 2:
        old, new = batch[-1], donor[-1]
        changed: Any = type(batch)([*batch[:-1], new])
    elif isinstance(batch, Mapping):
        keys = [key for key in batches.TARGET_KEYS if key in batch]
        if not keys:
            return None
        old, new = [batch[k] for k in keys], [donor[k] for k in keys]
        changed = dict(batch) | {k: donor[k] for k in keys}
    else:
        return None
    before, after = list(batches.named_tensors(old)), list(batches.named_tensors(new))
    if not before or [t.shape for _, t in before] != [t.shape for _, t in after]:
        return None
    return changed


def input_tensors(batch: Any) -> list[tuple[str, Tensor]]:
    """The input tensors under the names that `with_inputs` gives them."""
    found: list[tuple[str, Tensor]] = []

    def note(name: str, tensor: Tensor) -> Tensor:
        found.append((name, tensor))
        return tensor

    batches.with_inputs(batch, note)
    return found


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two structures hold equal tensors."""
    a, b = [t for _, t in batches.named_tensors(one)], [t for _, t in batches.named_tensors(other)]
    return len(a) == len(b) and all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _dim(tensor: Tensor, size: int) -> int | None:
    return tuple(tensor.shape).index(size) if tensor.ndim and size in tensor.shape else None


def _tail(tensor: Tensor, dim: int) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(tensor.shape) if i != dim)
