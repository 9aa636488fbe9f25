"""Which items of a data set a loader draws, told from its samplers and subsets without reading any data."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

# A longer epoch is followed this far.
MOST_INDICES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One epoch's indices into the innermost data set, `base`; `drawn`: as drawn, `of`: how many items there are to draw."""

    base: Any
    drawn: tuple[int, ...]
    of: int


def drawn_indices(loader: Any) -> Drawn | None:
    """What one epoch draws; None for a loader without indices. May draw from generators, which the caller puts back."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    if loader.batch_sampler is not None:
        epoch = chain.from_iterable(loader.batch_sampler)
    else:
        epoch = chain.from_iterable(i if isinstance(i, (list, tuple)) else (i,) for i in loader.sampler)
    drawn = list(islice(epoch, MOST_INDICES))
    if not all(isinstance(i, int) for i in drawn):
        return None
    base: Any = loader.dataset
    of = len(base)
    while isinstance(base, Subset) or (hasattr(base, "indices") and hasattr(base, "dataset")):
        # random_split's subsets, and wrappers of them that apply a transform
        places = base.indices.tolist() if isinstance(base.indices, Tensor) else base.indices
        if len(places) < len(base):
            return None
        drawn = [int(places[i]) for i in drawn]
        base = base.dataset
    return Drawn(base=base, drawn=tuple(drawn), of=of)


def length_of(source: Any) -> int | None:
    """Batches of a loader or items of a data set; None for one without a length."""
    try:
        return len(source) if isinstance(source, Sized) else None
    except (TypeError, NotImplementedError):  # a class may define __len__ and have none, as a loader of a stream does
        return None


def stores_items(data: Any) -> bool:
    """Whether a data set holds an array, list or table with an entry for each item; if it joins several, whether all of them do.

    One that is joined to itself makes a longer epoch or a heavier part on purpose, unless it is there just twice beside others.
    """
    if isinstance(data, ConcatDataset):
        parts = [id(part) for part in data.datasets]
        times = {parts.count(part) for part in parts}
        return times in ({1}, {1, 2}) and all(stores_items(part) for part in data.datasets)
    length = length_of(data)
    if length is None:
        return False
    held = list(vars(data).values()) if hasattr(data, "__dict__") else []
    held += [item for value in held if isinstance(value, (list, tuple)) and len(value) <= 16 for item in value]
    return any(_length(value) == length for value in held)


def _length(value: Any) -> int:
    if isinstance(value, Tensor) or hasattr(value, "shape"):
        return int(value.shape[0]) if len(value.shape) else -1
    return len(value) if isinstance(value, (list, tuple)) else -1
