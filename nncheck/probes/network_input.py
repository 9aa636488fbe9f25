"""What the first layers of the network are really given, after everything a loader, a step and a model do to a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.entrances import Entrance, Entrances, feature_axis
from nncheck.observe.pretrained import trained_before
from nncheck.observe.preview import preview
from nncheck.registry import probe
from nncheck.survey.moments import Moments, Spread
from nncheck.survey.pictures import Picture, picture
from nncheck.verdict import Place, Samples

# Samples and passes looked at: a standard deviation of 128 samples is known to 6 %; three passes are one step.
SAMPLES, PASSES = 128, 3
# Values of one entrance that are summed up, and features that have a result of their own.
MOST_VALUES, MOST_FEATURES = 1 << 22, 4096
# Distinct values are told apart up to this number.
MOST_DISTINCT = 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one layer is given, over the samples looked at.

    roots: the batch's tensors it comes from. layer, place: which layer. kind: see `observe.entrances`. shape: with the batch.
    low, high, mean, std: of all values. whole: share of whole numbers.
    bytes_twice: all are multiples of 1/255/255, as 8-bit values divided twice are.
    distinct: different values, None if many. same: all samples are equal.
    features: spread per feature, empty if there are too many. binary, empty: per feature, whether it has two values at most, and
    its share of zeros. blank: share of samples all of whose values are equal (0 if a sample has one value).
    normalised: the layer's output goes straight into a normalisation. shift, ratio: of that BatchNorm's input against its running
    statistics, in running standard deviations (median over channels) and as a ratio of variances; NaN where it has learned none.
    width: rows of an embedding. frequent, frequent_share, second_share, ids: the id that comes most often in an embedding's (N, T)
    input, padding at either end left out, its share, the next one's, and how many there are; None if it is no embedding's.
    picture: measurements of images; None if it is none. shown: what to look at.
    """

    roots: tuple[str, ...]
    layer: str
    kind: str
    place: Place | None
    shape: tuple[int, ...]
    samples: int
    low: float
    high: float
    mean: float
    std: float
    whole: float
    bytes_twice: bool
    distinct: int | None
    same: bool
    features: Spread
    binary: tuple[bool, ...]
    empty: tuple[float, ...]
    blank: float
    normalised: bool
    shift: float
    ratio: float
    changed: bool
    width: int
    frequent: int | None
    frequent_share: float
    second_share: float
    ids: int
    picture: Picture | None
    shown: Samples | None

    @property
    def rms(self) -> float:
        return math.hypot(self.mean, self.std)


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """The entrances in the order of the forward pass. trained: why the model is thought to be trained already, "" if it is not."""

    entries: tuple[Entry, ...]
    samples: int
    trained: str
    batch: str


@probe
def network_input(sandbox: Sandbox) -> NetworkInput:
    """A forward pass on the first batch, and on up to two more if batches are small."""
    given = sandbox.feed.samples(SAMPLES)[:PASSES]
    trained = trained_before(sandbox)
    passes: list[list[Entrance]] = []
    with sandbox.trial():
        for batch in given:
            sandbox.check_time()
            seen = Entrances(model=sandbox.model, batch=batch)
            sandbox.predict(batch, calls=(seen.see,))
            passes.append(seen.found)
    # Batches of one loader take the same way; where they do not, the first one speaks.
    alike = [p for p in passes if [_key(e) for e in p] == [_key(e) for e in passes[0]]]
    entries = tuple(_entry([p[i] for p in alike], given[0], trained) for i in range(len(passes[0])))
    return NetworkInput(
        entries=entries,
        samples=sum(batches.size(b) for b in given[: len(alike)]),
        trained=trained,
        batch=batches.describe(given[0]),
    )


def _key(entrance: Entrance) -> tuple[str, str, tuple[int, ...]]:
    return entrance.layer, entrance.function, tuple(entrance.tensor.shape[1:])


def _entry(same: list[Entrance], batch: Any, trained: str) -> Entry:
    first = same[0]
    tensor = torch.cat([e.tensor for e in same]) if first.tensor.ndim else first.tensor.reshape(1)
    per_row = max(1, tensor[0:1].numel())
    tensor = tensor[: max(1, MOST_VALUES // per_row)].cpu()
    if tensor.is_complex():
        tensor = tensor.abs()
    x = tensor.double()
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        x = torch.where(finite, x, 0.0)
    values = torch.unique(x.flatten()[: 1 << 18])
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    axis = feature_axis(first.kind, tensor) if tensor.ndim else 0
    features = Moments()
    binary: tuple[bool, ...] = ()
    empty: tuple[float, ...] = ()
    if tensor.ndim > 1 and tensor.size(axis) <= MOST_FEATURES:
        table = x.movedim(axis, -1).reshape(-1, x.size(axis))
        features.add(table)
        low, high = torch.aminmax(table, dim=0)
        binary = tuple(((table == low) | (table == high)).all(0).tolist())
        empty = tuple((table == 0).double().mean(0).tolist())
    shift, ratio = _against_running(same, trained)
    frequent, share, second, ids = _frequent(tensor) if first.kind == "embedding" else (None, 0.0, 0.0, 0)
    shown = preview({_title(first): first.tensor}, batch) if first.tensor.ndim > 1 else None
    return Entry(
        roots=first.roots,
        layer=first.layer,
        kind=first.kind,
        place=first.place,
        shape=tuple(first.tensor.shape),
        samples=x.size(0),
        low=float(x.min()) if x.numel() else math.nan,
        high=float(x.max()) if x.numel() else math.nan,
        mean=float(x.mean()),
        std=float(x.std(correction=0)),
        whole=float((x == x.round()).double().mean()),
        bytes_twice=bool(((x * 65025 - (x * 65025).round()).abs() < 1e-3).all()) and bool((x.abs() < 0.01).all()),
        distinct=values.numel() if values.numel() <= MOST_DISTINCT else None,
        same=rows.size(0) > 1 and bool((rows == rows[:1]).all()),
        features=features.result(),
        binary=binary,
        empty=empty,
        blank=float((rows.amax(1) == rows.amin(1)).double().mean()) if rows.size(1) > 1 else 0.0,
        normalised=all(e.normalised for e in same),
        shift=shift,
        ratio=ratio,
        changed=first.changed,
        width=first.width,
        frequent=frequent,
        frequent_share=share,
        second_share=second,
        ids=ids,
        picture=picture(tensor) if tensor.size(0) == x.size(0) and tensor.is_floating_point() else None,
        shown=shown,
    )


def _frequent(tensor: Tensor) -> tuple[int | None, float, float, int]:
    """The most frequent id of (N, T), runs of one id at either end of a row left out as padding."""
    if tensor.ndim != 2 or tensor.size(1) < 2 or tensor.is_floating_point():
        return None, 0.0, 0.0, 0
    ends = (tensor == tensor[:, -1:]).flip(1).long().cumprod(1).flip(1)
    begins = (tensor == tensor[:, :1]).long().cumprod(1)
    # A run of one is a token like any other.
    padding = (ends.bool() & (ends.sum(1, keepdim=True) > 1)) | (begins.bool() & (begins.sum(1, keepdim=True) > 1))
    values, counts = torch.unique(tensor[~padding], return_counts=True)
    if not values.numel():
        return None, 0.0, 0.0, 0
    order = counts.argsort(descending=True)
    shares = (counts[order].double() / counts.sum()).tolist()
    return int(values[order[0]]), shares[0], shares[1] if len(shares) > 1 else 0.0, values.numel()


def _title(entrance: Entrance) -> str:
    return f"`{entrance.layer}`" if entrance.layer else "the first layer"


def _against_running(same: list[Entrance], trained: str) -> tuple[float, float]:
    """How far the input of the first BatchNorm is from what it was trained with."""
    found = [e.statistics for e in same if e.statistics is not None]
    if not trained or not found:
        return math.nan, math.nan
    mean = torch.stack([s[0] for s in found]).mean(0)
    variance = torch.stack([s[1] for s in found]).mean(0)
    was_mean, was_variance = (t.double() for t in found[0][2:])
    # A network that never ran in train mode still has the statistics it was made with.
    if bool((was_mean == 0).all()) and bool((was_variance == 1).all()):
        return math.nan, math.nan
    spread = was_variance.clamp_min(1e-12).sqrt()
    return float(((mean - was_mean).abs() / spread).median()), float((variance / spread.square()).median())
