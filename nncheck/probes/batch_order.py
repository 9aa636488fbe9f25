"""In which order the labels come: how mixed the batches are, against batches drawn from the same labels by chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from nncheck.errors import OutOfTime
from nncheck.lab import fingerprint
from nncheck.lab.chance import SeedWatch, watch_seeding
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.lab.workers import in_process
from nncheck.probes.training_data import TrainingData
from nncheck.registry import probe
from nncheck.survey.data_state import reading
from nncheck.verdict import Place

# So many samples of the pass are looked at, and so often are their labels shuffled.
SAMPLES, SHUFFLES = 50_000, 40
# Whole numbers are classes if this many samples or more fall on each, on average.
SAMPLES_A_CLASS = 4
MOST_CLASSES = 1000
# Orders of two epochs are compared by so many indices, or by the first batches of a loader without indices.
INDICES, BATCHES = 2000, 2
# Batches and classes of the picture.
SHOWN_BATCHES, SHOWN_CLASSES = 48, 12


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """The order of the training labels in one pass.

    kind: "classes", "numbers", or "" where a sample has no label of one number. batches, size, last: how many, of how many
    samples; the last one's. mixed: mean entropy of the labels in a batch (classes), or the share of their variance inside of
    batches (numbers); by_chance: the same after shuffling, mean; below: by how many standard deviations of that `mixed` is smaller.
    runs: stretches of one label; rising: the larger share of neighbours in ascending or in descending order.
    overlap: share of neighbours whose inputs share a block of steps, as windows of one series do.
    same_order: whether a second epoch has the same order, None if not known. indexed: whether the loader draws indices of a data
    set. drawn_by: the sampler. reseeded: where an own sampler without `set_epoch` seeds its order with a number, each epoch anew.
    shares: labels by batch, for the picture.
    """

    kind: str = ""
    batches: int = 0
    size: int = 0
    last: int = 0
    samples: int = 0
    classes: int = 0
    mixed: float = 0.0
    by_chance: float = 0.0
    below: float = 0.0
    runs: int = 0
    rising: float = 0.0
    overlap: float = 0.0
    same_order: bool | None = None
    indexed: bool = False
    drawn_by: str = ""
    reseeded: Place | None = None
    shares: tuple[tuple[float, ...], ...] = ()


@probe
def batch_order(sandbox: Sandbox, data: TrainingData) -> BatchOrder:
    """Judge the order of labels by shuffling them; compare the order of two epochs."""
    marks = data.survey.samples
    loader = sandbox.setup.train_loader
    indexed = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    sampler = getattr(loader, "sampler", None)
    if isinstance(loader, DataLoader) and not loader.batch_size:
        sampler = loader.batch_sampler or sampler
    drawn_by = type(loader if sampler is None else sampler).__name__
    sizes = marks.sizes
    plain: dict[str, Any] = {
        "batches": len(sizes),
        "size": max(sizes, default=0),
        "last": sizes[-1] if sizes and data.survey.coverage.complete else 0,
        "samples": marks.count,
        "indexed": indexed,
        "drawn_by": drawn_by,
    }
    plain["same_order"], plain["reseeded"] = _same_order(sandbox, loader)
    if len(marks.label) != marks.count or marks.count < 8:
        return BatchOrder(**plain)
    label = torch.frombuffer(marks.label, dtype=torch.float64)[:SAMPLES].clone()
    member = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[: label.numel()]
    values, codes = torch.unique(label, return_inverse=True)
    classes = values.numel()
    if classes < 2:
        return BatchOrder(**plain)
    is_class = marks.whole and classes <= min(MOST_CLASSES, label.numel() / SAMPLES_A_CLASS)
    generator = torch.Generator().manual_seed(0)

    def mixed(order: Tensor) -> float:
        if is_class:
            return _entropy(codes[order], member, classes)
        return _inside(label[order], member)

    found = mixed(torch.arange(label.numel()))
    shuffled = torch.tensor([mixed(torch.randperm(label.numel(), generator=generator)) for _ in range(SHUFFLES)])
    mean, std = float(shuffled.mean()), float(shuffled.std())
    steps = label.diff()
    blocks = torch.frombuffer(marks.blocks, dtype=torch.int64).clone() if marks.blocks else torch.zeros(0)
    return BatchOrder(
        **plain,
        kind="classes" if is_class else "numbers",
        classes=classes if is_class else 0,
        mixed=found,
        by_chance=mean,
        below=(mean - found) / max(std, 1e-9),
        runs=1 + int((steps != 0).sum()),
        rising=max(float((steps >= 0).double().mean()), float((steps <= 0).double().mean())),
        overlap=float((blocks[1:] == blocks[:-1]).double().mean()) if len(blocks) > 1 else 0.0,
        shares=_shares(codes, member, classes) if is_class else (),
    )


def _entropy(codes: Tensor, member: Tensor, classes: int) -> float:
    """Mean over samples of the entropy of labels in their batch, in nats."""
    batches = int(member[-1]) + 1
    if batches * classes > 1 << 24:
        _, cells = torch.unique(member * classes + codes, return_counts=True)
        table = cells.double()
        total = torch.bincount(member).double()
        return float((torch.xlogy(total, total).sum() - torch.xlogy(table, table).sum()) / member.numel())
    table = torch.bincount(member * classes + codes, minlength=batches * classes).double()
    total = table.view(batches, classes).sum(1)
    return float((torch.xlogy(total, total).sum() - torch.xlogy(table, table).sum()) / member.numel())


def _inside(label: Tensor, member: Tensor) -> float:
    """Share of the labels' variance that lies within batches."""
    number = torch.bincount(member).double()
    sums = torch.zeros_like(number).index_add_(0, member, label)
    centred = label - (sums / number)[member]
    whole = float((label - label.mean()).square().sum())
    return float(centred.square().sum()) / whole if whole > 0 else 1.0


def _shares(codes: Tensor, member: Tensor, classes: int) -> tuple[tuple[float, ...], ...]:
    """Rows are classes, columns batches (joined to a few): share of the column's samples with this label."""
    if classes > SHOWN_CLASSES:
        return ()
    batches = int(member[-1]) + 1
    columns = min(SHOWN_BATCHES, batches)
    column = member * columns // batches
    table = torch.bincount(codes * columns + column, minlength=classes * columns).double().view(classes, columns)
    table = table / table.sum(0).clamp_min(1)
    return tuple(tuple(round(v, 3) for v in row) for row in table.tolist())


def _same_order(sandbox: Sandbox, loader: Any) -> tuple[bool | None, Place | None]:
    """Whether the next epoch begins with the same samples in the same order under another state of every generator; and where
    a sampler of the user's seeds that order, if it is no plain counting."""
    # With a batch sampler of the user's, the loader has a sequential one that is not used; its batch size is None then.
    if isinstance(loader, DataLoader) and loader.batch_size and isinstance(loader.sampler, SequentialSampler):
        return True, None
    if hasattr(loader, "__next__"):
        return None, None
    watch = SeedWatch()
    with reading(sandbox, loader):
        try:
            orders = []
            for epoch in range(2):
                seed_everything(sandbox.seed + 1 + epoch)
                with watch_seeding(watch):
                    orders.append(list(_beginning(loader)))
                sandbox.check_time()
        except (OutOfTime, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001  # the user's sampler or data set may raise anything; `forward-pass` reports it
            return None, None
    if not orders[0]:
        return None, None
    fixed = [seeding.place for seeding in watch.seedings if seeding.fixed]
    own = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    counted = any(hasattr(getattr(loader, name, None), "set_epoch") for name in ("sampler", "batch_sampler"))
    return orders[0] == orders[1], fixed[0] if fixed and own and not counted else None


def _beginning(loader: Any) -> Iterator[Any]:
    """The first indices a loader draws; where it draws none, the fingerprints of its first batches."""
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        drawn = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
        for item in islice(iter(drawn), INDICES):
            yield repr(item)
        return
    for batch in islice(iter(in_process(loader)), BATCHES):
        yield fingerprint.of(batch)
