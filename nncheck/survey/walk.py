"""One seeded epoch of a loader, batch by batch, capped by samples and time; afterwards all is as the user left it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.workers import in_process, remote_failure
from nncheck.observe.source import user_frames
from nncheck.survey.data_state import reading

# Enough for any share or mean to be known to a thousandth, and a bound on what accumulators keep per sample.
MOST_SAMPLES = 1_000_000
# The pass may take no larger part of the time that is left for the whole run.
PART_OF_THE_TIME_LEFT = 0.25
# A loader that can be iterated only once is not emptied: of its batches those are looked at that are kept for other probes.
KEPT_BATCHES = 32

# Hardly anything can be computed with these.
_WIDE = (torch.uint16, torch.uint32, torch.uint64)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One tensor of a batch on the CPU, its samples in dimension 0; `name` as in `lab.batch.named_tensors` of the batch."""

    name: str
    rows: Tensor


@dataclass(frozen=True, kw_only=True)
class SeenBatch:
    """One batch as accumulators get it.

    batch: as the loader gave it. size: its samples. begin: how many samples came before it in this pass.
    inputs, targets: its tensors that have a dimension of samples, split as `lab.batch.split` does.
    """

    batch: Any
    size: int
    begin: int
    inputs: tuple[Part, ...]
    targets: tuple[Part, ...]


class Accumulator(Protocol):
    """What a pass feeds. It keeps sums, counts and hashes, no samples; its own `result()` gives plain numbers."""

    def add(self, index: int, seen: SeenBatch) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the loader was seen. complete: its whole epoch. stopped: why it was not, "" if it was.

    first: the first batch in words. failure: what the loader failed with after its first batch, "" if it did not.
    """

    batches: int
    samples: int
    complete: bool
    stopped: str
    failure: str
    first: str

    @property
    def words(self) -> str:
        """`60000 samples` or `the first 12800 samples, stopped after 5 s`."""
        return f"{self.samples} samples" if self.complete else f"the first {self.samples} samples, {self.stopped}"


def walk(
    sandbox: Sandbox,
    loader: Iterable[Any],
    accumulators: Sequence[Accumulator],
    *,
    seconds: float,
    samples: int = MOST_SAMPLES,
    what: str = "training",
) -> Coverage:
    """Feed one epoch to the accumulators, seeded as `sandbox.feed` is: it begins with the same batches.

    Raises CannotMeasure if there is no batch, TargetError if the loader fails at its first one.
    """
    left = sandbox.deadline - time.monotonic()
    limit = min(seconds, left * PART_OF_THE_TIME_LEFT)
    started = time.monotonic()
    count = seen = 0
    first = stopped = failure = ""
    with reading(sandbox, loader):
        stream = _open(sandbox, loader)
        while True:
            sandbox.check_time()
            if isinstance(loader, Iterator) and count >= KEPT_BATCHES:
                stopped = f"the loader can be iterated only once, {KEPT_BATCHES} batches were kept"
                break
            try:
                batch = next(stream)
            except StopIteration:
                break
            except (OutOfTime, KeyboardInterrupt, CannotMeasure):
                raise
            except BaseException as error:  # SystemExit, and what a library derives from BaseException
                kind, text, frames = remote_failure(error)
                failure = f"the {what} loader failed at batch {count} (counted from 0): {kind}: {text}"
                if not count:
                    raise TargetError(failure, places=frames or user_frames(error)) from error
                stopped = f"the loader failed at batch {count}"
                break
            one = look(batch, seen)
            first = first or batches.describe(batch)
            for accumulator in accumulators:
                accumulator.add(count, one)
            count, seen = count + 1, seen + one.size
            if seen >= samples:
                stopped = f"stopped after {samples} samples"
                break
            if time.monotonic() - started > limit:
                stopped = f"stopped after {limit:.3g} s"
                break
    if not count:
        raise CannotMeasure(f"the {what} loader gave no batch")
    return Coverage(
        batches=count, samples=seen, complete=not stopped, stopped=stopped, failure=failure, first=first,
    )  # fmt: skip


def look(batch: Any, begin: int = 0) -> SeenBatch:
    """A batch taken apart for accumulators."""
    size = batches.size(batch)
    inputs, target = batches.split(batch)
    # A pair's parts are named as those of the batch are: `[0]`, `[1]`, `[1][0]`; a dict's by their keys.
    names = {id(tensor): name for name, tensor in batches.named_tensors(batch)}

    def parts(value: Any) -> tuple[Part, ...]:
        found = []
        for name, tensor in batches.named_tensors(value):
            if tensor.layout is not torch.strided or tensor.is_quantized or not tensor.ndim or size not in tensor.shape:
                continue
            rows = tensor.detach().movedim(tuple(tensor.shape).index(size), 0).cpu()
            if rows.dtype in _WIDE:
                rows = rows.long()
            found.append(Part(name=names.get(id(tensor), name), rows=rows))
        return tuple(found)

    return SeenBatch(batch=batch, size=size, begin=begin, inputs=parts(inputs), targets=parts(target))


def _open(sandbox: Sandbox, loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches, without worker processes unless its data set needs them."""
    if isinstance(loader, Iterator):
        kept = sandbox.feed.take(KEPT_BATCHES) if loader is sandbox.setup.train_loader else None
        return iter(kept) if kept is not None else iter(loader)
    alone = in_process(loader)
    if alone is loader:
        return iter(loader)
    return _with_workers_if_needed(lambda: iter(alone), lambda: iter(loader))


def _with_workers_if_needed(alone: Callable[[], Iterator[Any]], theirs: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    try:
        stream = alone()
        first = next(stream)
    except StopIteration:
        return
    except Exception:  # noqa: BLE001  # what `worker_init_fn` sets up may be missing: the user's own workers are asked then
        yield from theirs()
        return
    yield first
    yield from stream
