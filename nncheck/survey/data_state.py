"""What a data set carries along from item to item (counters, epochs, generators, small caches), put back after a pass."""

from __future__ import annotations

import random
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import OutOfTime
from nncheck.lab.indices import Drawn, drawn_indices
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot, seed_everything

# Tensors, arrays and containers beyond this are the data themselves: copying them would hold the data set.
MOST_BYTES = 1 << 24
MOST_ITEMS = 4096
# A data set in a subset in a concatenation in a wrapper, and so on.
_DEPTH = 8


class DataState:
    """The attributes of a loader, its data sets and their samplers, and what is small in them, as they are now."""

    def __init__(self, loader: Any) -> None:
        self._attributes = [(vars(owner), dict(vars(owner))) for owner in _owners(loader)]
        small = [value for _, saved in self._attributes for value in saved.values() if _is_small(value)]
        self._values = Snapshot(small)

    def restore(self) -> None:
        """Put everything back."""
        for present, saved in self._attributes:
            for name in [n for n in present if n not in saved]:
                del present[name]
            for name, value in saved.items():
                if name not in present or present[name] is not value:
                    present[name] = value
        self._values.restore()


@contextmanager
def reading(sandbox: Sandbox, loader: Any) -> Iterator[None]:
    """A seeded look at a loader or its data set, without the user's warnings; afterwards all is as the user left it."""
    state = DataState(loader)
    sandbox.put_back()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seed_everything(sandbox.seed)
            yield
    finally:
        state.restore()
        sandbox.put_back()


def drawn_items(sandbox: Sandbox, loader: Any) -> Drawn | None:
    """What one seeded epoch of a loader draws; None if it has no indices, or its sampler fails."""
    with reading(sandbox, loader):
        try:
            return drawn_indices(loader)
        except (OutOfTime, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001  # the user's sampler may raise anything; the passes over the data report it
            return None


def _owners(loader: Any) -> Iterator[Any]:
    """The loader and the objects it takes its samples from."""
    waiting: deque[tuple[Any, int]] = deque([(loader, 0)])
    seen: set[int] = set()
    while waiting:
        owner, depth = waiting.popleft()
        if id(owner) in seen or depth > _DEPTH or not hasattr(owner, "__dict__"):
            continue
        seen.add(id(owner))
        yield owner
        for name in ("dataset", "sampler", "batch_sampler", "loader", "transform", "transforms", "collate_fn"):
            waiting.append((vars(owner).get(name), depth + 1))
        datasets = vars(owner).get("datasets")
        if isinstance(datasets, (list, tuple)) and len(datasets) <= MOST_ITEMS:
            waiting.extend((one, depth + 1) for one in datasets)


def _is_small(value: Any) -> bool:
    """Whether a value is worth keeping: a tensor, array or container that is no data set by itself."""
    if isinstance(value, (torch.Generator, random.Random)) or hasattr(value, "bit_generator"):
        return True
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() <= MOST_BYTES
    if hasattr(value, "nbytes"):
        return int(value.nbytes) <= MOST_BYTES
    if isinstance(value, (list, tuple, set, dict, deque)):
        items = list(value.values()) if isinstance(value, dict) else value
        return len(items) <= MOST_ITEMS and all(_is_small(item) or _is_plain(item) for item in items)
    return False


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes))
