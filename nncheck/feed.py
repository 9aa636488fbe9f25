"""The user's batches, each fetched once and shared by all probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from nncheck import batch as batches
from nncheck.errors import OutOfTime, TargetError
from nncheck.snapshot import RandomState, seed_everything
from nncheck.source import user_frames

# Kept batches may take this much memory; beyond it fewer are kept, and the probes that wanted more say how many they had.
KEPT_BYTES = 1 << 30


class Feed:
    """The first batches of a loader, in the order a seeded first epoch gives them."""

    def __init__(
        self, loader: Iterable[Any], *, device: torch.device, seed: int, clock: Callable[[], None] = lambda: None
    ) -> None:
        self._loader = loader
        self._device = device
        self._seed = seed
        self._clock = clock
        self._kept: list[Any] = []
        self._bytes = 0
        self._iterator: Iterator[Any] | None = None
        self._rng: RandomState | None = None
        self.ended = False
        """Whether the loader has no further batch: one epoch is `len(self.take(...))` batches."""

    @property
    def first(self) -> Any:
        """The first batch. Raises TargetError if there is none."""
        found = self.take(1)
        if not found:
            raise TargetError(
                "the training loader gave no batch",
                help="its data set is empty, or drop_last=True drops the only batch",
            )
        return found[0]

    @property
    def batch_size(self) -> int:
        """Samples in the first batch: the unit in which cost is counted."""
        return batches.size(self.first)

    def take(self, count: int) -> list[Any]:
        """Up to `count` batches of one epoch, from its start. Raises TargetError if the loader itself fails."""
        while len(self._kept) < count and not self.ended and self._bytes < KEPT_BYTES:
            self._fetch()
        return self._kept[:count]

    def samples(self, count: int) -> list[Any]:
        """Batches that together hold at least `count` samples, or the whole epoch if it is smaller."""
        number, held = 1, 0
        while True:
            found = self.take(number)
            held = sum(batches.size(b) for b in found)
            if held >= count or len(found) < number:
                return found
            number = max(number + 1, int(number * count / max(1, held)))

    def _fetch(self) -> None:
        self._clock()
        outside = RandomState()
        try:
            if self._rng is None:
                seed_everything(self._seed)
            else:
                self._rng.restore()
            if self._iterator is None:
                self._iterator = iter(self._loader)
            batch = next(self._iterator)
            self._rng = RandomState()
        except StopIteration:
            self.ended = True
            self._iterator = None
            return
        except (OutOfTime, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:
            raise TargetError(
                f"the training loader failed at batch {len(self._kept)}: {type(error).__name__}: {error}",
                places=user_frames(error),
            ) from error
        finally:
            outside.restore()
        batch = batches.to_device(batch, self._device)
        # A loader may hand out the same buffer again and again: what is kept must not change under us.
        batch = batches.map_tensors(lambda t: t.clone(), batch)
        self._kept.append(batch)
        self._bytes += sum(_bytes(t) for _, t in batches.named_tensors(batch))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
