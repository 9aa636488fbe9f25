"""The user's batches, each fetched once and shared by all probes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import OutOfTime, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.snapshot import RandomState, seed_everything
from nncheck.lab.workers import in_process, remote_failure
from nncheck.observe.source import user_frames
from nncheck.verdict import Place

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
        self.failure: TargetError | None = None
        """Why there is no further batch, if the loader failed after its first."""
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
        """Up to `count` batches of one epoch, from its start. Raises TargetError if the loader fails at its first batch;
        a later failure ends the epoch, and is kept for the report."""
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
            batch = self._next()
            self._rng = RandomState()
        except StopIteration:
            self._end()
            return
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, and what a library derives from BaseException
            failure = loader_failure(error, len(self._kept))
            if not self._kept:
                raise failure from error
            self.failure = failure
            self._end()
            return
        finally:
            outside.restore()
        # A loader may hand out the same buffer again and again: what is kept must not change under us.
        self._kept.append(batches.map_tensors(lambda t: t.clone(), batch))
        self._bytes += sum(_bytes(t) for _, t in batches.named_tensors(batch))

    def _next(self) -> Any:
        if self._iterator is not None:
            return batches.to_device(next(self._iterator), self._device)
        alone = in_process(self._loader)
        try:
            self._iterator = iter(alone)
            return batches.to_device(next(self._iterator), self._device)
        except Exception:
            if alone is self._loader or isinstance(sys.exc_info()[1], StopIteration):
                raise
        # A data set may rely on what `worker_init_fn` sets up: the user's own workers are asked then.
        self._iterator = iter(self._loader)
        return batches.to_device(next(self._iterator), self._device)

    def _end(self) -> None:
        self.ended = True
        self._iterator = None


def loader_failure(error: BaseException, index: int) -> TargetError:
    """A failure of the user's data set, collate function or loader at a batch, with the user's frames."""
    kind, text, frames = remote_failure(error)
    places: tuple[Place, ...] = frames or user_frames(error)
    if isinstance(error, SystemExit):
        return TargetError(f"the training loader called exit({error.code!r}) at batch {index}", places=places)
    return TargetError(f"the training loader failed at batch {index} (counted from 0): {kind}: {text}", places=places)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
