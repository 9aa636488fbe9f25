"""How the training loader draws its samples: the sampler, its weights, and the labels it draws from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from nncheck.lab.indices import length_of
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.verdict import Place

# Names under which data sets keep their labels (torchvision: targets; others by survey).
_NAMES = ("targets", "labels", "y", "label", "_labels", "_targets")
# More labels are not counted.
MOST = 5_000_000


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """sampler: its class, "" if the loader has none. weights: how many weights it has, None if it has none. length: samples of the
    data set, None if it has no length. labels: (label, how often) in the data set itself, before the sampler; None if unknown.
    """

    sampler: str
    weights: int | None
    length: int | None
    labels: tuple[tuple[int, int], ...] | None
    place: Place | None


@probe
def sampling(sandbox: Sandbox) -> Sampling:
    """Read the loader; nothing is drawn."""
    loader = sandbox.setup.train_loader
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    weighted = next((s for s in (sampler, inner) if isinstance(getattr(s, "weights", None), Tensor)), None)
    dataset = getattr(loader, "dataset", None)
    chosen = weighted if weighted is not None else sampler
    return Sampling(
        sampler=type(chosen).__name__ if chosen is not None else "",
        weights=weighted.weights.numel() if weighted is not None else None,
        length=length_of(dataset),
        labels=_labels(dataset),
        place=sandbox.setup.origins.get("train_loader"),
    )


def _labels(dataset: Any) -> tuple[tuple[int, int], ...] | None:
    """The labels a data set keeps in memory, counted."""
    values = _kept(dataset)
    if values is None or not 0 < len(values) <= MOST:
        return None
    return tuple(sorted((int(v), int(n)) for v, n in Counter(values.tolist()).items()))


def _kept(dataset: Any) -> Tensor | None:
    if isinstance(dataset, Subset):
        whole = _kept(dataset.dataset)
        indices = torch.as_tensor(list(dataset.indices), dtype=torch.long)
        return whole[indices] if whole is not None and len(indices) and int(indices.max()) < len(whole) else None
    length = length_of(dataset)
    tensors = getattr(dataset, "tensors", None)
    found = [tensors[-1]] if isinstance(tensors, (tuple, list)) and len(tensors) > 1 else []
    found += [getattr(dataset, name, None) for name in _NAMES]
    for value in found:
        if isinstance(value, (list, tuple)) and len(value) == length and value and all(type(v) is int for v in value):
            value = torch.tensor(value)
        elif type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 1 and value.dtype.kind in "iub":
            value = torch.from_numpy(value)
        if isinstance(value, Tensor) and value.ndim == 1 and len(value) == length and not value.is_floating_point():
            return value.detach().cpu()
    return None
