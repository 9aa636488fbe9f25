"""Samples run alone, in pairs and in the batch: whether their outputs are the same, and whether an epoch's last batch runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.micro import splits
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.swapping import CHOICES
from nncheck.losses.call import REGRESSION
from nncheck.observe.mixing import both
from nncheck.observe.rows import Rows, compare
from nncheck.observe.source import layer_place, located
from nncheck.observe.tracks import Made, Track, follow, freeze
from nncheck.probes.batch_dependencies import BatchDependencies
from nncheck.registry import probe
from nncheck.verdict import Place

# Healthy models gave at most 6e-7 of the largest output in float32 for samples run alone (other kernels, other order of sums):
# five roundings. A hundred roundings are allowed in every type.
ROUNDINGS = 100
# A badly conditioned network magnifies rounding: what a change of the parameters by one rounding does to the outputs, times this.
CONDITION = 100.0
# Values that are put on a grid jump by a step when the grid's scale follows the batch, as in quantisation.
GRIDS = {
    "round",
    "round_",
    "fake_quantize_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "floor",
    "quantize_per_tensor",
}


FOLDS = {"view", "reshape", "flatten", "unflatten", "repeat", "repeat_interleave", "cat"}


@dataclass(frozen=True, kw_only=True)
class LastBatch:
    """The last batch of an epoch, in train mode: its samples, and how the user's code fails on it, if it does."""

    samples: int
    failure: str
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class SampleRuns:
    """Outputs of samples in other company, against those in the first batch, in eval mode.

    size: of the batch. asked: the groups run; apart: the largest difference of each, relative to the largest output.
    allowed: what rounding explains, for this type and this network. refused: sizes the model does not run with.
    function, place: the first call that differs. reason: why differences are not judged, "" if they are.
    last: the epoch's last batch, if it is smaller and could be made. each: rows of the output for every sample, where the loss
    has one target for each sample and broadcasts; 1 otherwise.
    """

    size: int
    asked: tuple[str, ...]
    apart: tuple[float, ...]
    allowed: float
    refused: tuple[int, ...]
    function: str
    place: Place | None
    reason: str
    last: LastBatch | None
    each: int = 1


@probe
def sample_runs(sandbox: Sandbox, deps: BatchDependencies) -> SampleRuns:
    """One forward pass of the batch, and passes of one and two samples; a training pass of the last batch if it is smaller."""
    batch = sandbox.feed.first
    size = batches.size(batch)
    last = _last(sandbox, size)
    reason = ""
    if deps.statistics:
        reason = "BatchNorm uses the statistics of the batch in eval mode"
    elif not splits(batch):
        reason = "not every tensor of the batch has a row for each sample"
    elif deps.mixing is not None:
        reason = "samples of a batch depend on each other"
    groups = {"one": [[0], [size // 2], [size - 1]], "two": [[size - 1, 0]]}
    asked: list[str] = []
    apart: list[float] = []
    refused: set[int] = set()
    allowed = 0.0
    first: tuple[str, Place | None] = ("", None)
    each = 1
    whole = None if reason else _run(sandbox, batch)
    if whole is not None:
        reason = _not_judged(whole)
        allowed = ROUNDINGS * max((torch.finfo(t.dtype).eps for _, t in whole.outputs), default=0.0)
    if whole is not None and not reason:
        for name, indices in ((name, group) for name, several in groups.items() for group in several):
            if len(indices) >= size:
                continue
            try:
                part = _run(sandbox, batches.take(batch, torch.tensor(indices)))
            except TargetError:
                refused.add(len(indices))
                continue
            difference = _apart(whole, part, indices, size)
            if difference is not None:
                asked.append(f"{name}: {', '.join(map(str, indices))}")
                apart.append(difference)
        each, first = _folded(sandbox, batch, whole)
        if not asked:
            reason = (
                "no output has rows that follow the batch" if not refused else "the model takes only the whole batch"
            )
        if max(apart, default=0.0) > allowed:
            if (CHOICES | GRIDS) & set(whole.functions):
                reason = (
                    "the model chooses from the data, or rounds to a grid, so that small differences may become large"
                )
            else:
                allowed = max(allowed, CONDITION * _conditioning(sandbox, batch, whole))
                first = _first(sandbox, batch, allowed)
    if reason and last is None:
        raise CannotMeasure(reason)
    return SampleRuns(
        size=size,
        asked=tuple(asked),
        apart=tuple(apart),
        allowed=allowed,
        refused=tuple(sorted(refused)),
        function=first[0],
        place=first[1],
        reason=reason,
        last=last,
        each=each,
    )


def _folded(sandbox: Sandbox, batch: Any, whole: Track) -> tuple[int, tuple[str, Place | None]]:
    """How many rows a sample has in what the loss is given, where its targets have one, and the call that makes so many."""
    size = batches.size(batch)
    nothing: tuple[int, tuple[str, Place | None]] = (1, ("", None))
    several = [t.size(0) // size for _, t in whole.outputs if t.ndim and t.size(0) > size and t.size(0) % size == 0]
    if not several or size < 2:
        return nothing
    with sandbox.trial(mode="eval"):
        calls = sandbox.forward(batch).calls
        met = [c for c in calls if c.input.ndim and c.target.ndim and c.target.size(0) == size]
        met = [c for c in met if c.kind in REGRESSION and c.input.size(0) in [k * size for k in several]]
        if not met or met[0].input.numel() == met[0].target.numel():
            return nothing
        each = met[0].input.size(0) // size
    made = _run(sandbox, batch, keep=True).made
    found = next((m for m in made if m.tensor.size(0) == each * size and m.function in FOLDS), None)
    return each, (found.function, _place(sandbox, found)) if found is not None else ("", None)


def _run(sandbox: Sandbox, batch: Any, *, keep: bool = False, shaken: bool = False) -> Track:
    with sandbox.trial(mode="eval"):
        freeze(sandbox.model)
        if shaken:
            generator = torch.Generator().manual_seed(0)
            for parameter in sandbox.model.parameters():
                if parameter.is_floating_point():
                    noise = torch.randn(parameter.shape, generator=generator).to(parameter.device, parameter.dtype)
                    parameter.mul_(1 + noise * torch.finfo(parameter.dtype).eps)
        track = follow(sandbox, batch, keep=(lambda t: t.ndim > 0) if keep else None)
        track.outputs = [(name, t.detach().clone()) for name, t in track.outputs]
        return track


def _not_judged(track: Track) -> str:
    if track.random:
        return "the model draws random numbers in eval mode"
    if track.stateful:
        return "the model keeps a state from pass to pass"
    if track.ragged:
        return "a list comes beside the tensors, one entry a sample"
    if not all(bool(torch.isfinite(t).all()) for _, t in track.outputs):
        return "the outputs are not finite"
    return ""


def _apart(whole: Track, part: Track, indices: list[int], size: int) -> float | None:
    """The largest difference between a sample's outputs here and there; None if they cannot be compared."""
    if len(whole.outputs) != len(part.outputs):
        return None
    gaps = [_gap(many, few, indices, size) for (_, many), (_, few) in zip(whole.outputs, part.outputs, strict=True)]
    return max((gap for gap in gaps if gap is not None), default=None)


def _gap(many: Tensor, few: Tensor, indices: list[int], size: int) -> float | None:
    """How far the rows of the same samples lie apart in two tensors, relative to the largest entry; None if there are none."""
    where = torch.tensor(indices, device=many.device)
    rows = compare(few.shape, many.shape, samples_few=len(indices), samples=size)
    many, few = many.detach().double(), few.detach().double()
    if not many.numel():
        return None
    scale = many.abs().max().clamp_min(1e-30)
    if isinstance(
        rows, Rows
    ):  # several rows a sample lie side by side, or in blocks: two views of a batch, one after the other
        ways = [(way.by_sample(many)[where], way.by_sample(few)) for way in both(rows)]
        return min(float((a - b).abs().max() / scale) for a, b in ways)
    # `squeeze()` takes the dimension of a batch of one as well: the numbers are there all the same.
    lost = rows is None and few.ndim < many.ndim and many.size(0) == size
    if lost and few.numel() * size == many.numel() * len(indices):
        return float((many.reshape(size, -1)[where] - few.reshape(len(indices), -1)).abs().max() / scale)
    return None


def _conditioning(sandbox: Sandbox, batch: Any, whole: Track) -> float:
    """How far the outputs move when every parameter changes by about one rounding."""
    shaken = _run(sandbox, batch, shaken=True)
    found = [
        float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-30))
        for (_, a), (_, b) in zip(whole.outputs, shaken.outputs, strict=False)
        if a.shape == b.shape and a.numel()
    ]
    return max(found, default=0.0)


def _first(sandbox: Sandbox, batch: Any, allowed: float) -> tuple[str, Place | None]:
    """The first call of which a sample gets another result alone, or the first that is made only in one of the two."""
    size = batches.size(batch)
    try:
        many = _run(sandbox, batch, keep=True).made
        few = _run(sandbox, batches.take(batch, torch.tensor([0])), keep=True).made
    except TargetError:
        return "", None
    for a, b in zip(many, few, strict=False):
        if a.function != b.function:
            return a.function, _place(sandbox, a)
        gap = _gap(a.tensor, b.tensor, [0], size)
        if gap is not None and gap > allowed:
            return a.function, _place(sandbox, a)
    return "", None


def _place(sandbox: Sandbox, made: Made) -> Place:
    place = made.place if made.place.file else layer_place(sandbox.model, made.layer)
    return located(place, sandbox.setup.origins.get("model"))


def _last(sandbox: Sandbox, size: int) -> LastBatch | None:
    """The last batch of an epoch, collated as the loader does it, in a training pass."""
    loader = sandbox.setup.train_loader
    if not isinstance(loader, DataLoader) or type(loader.batch_sampler) is not BatchSampler or loader.drop_last:
        return None
    if type(loader.sampler) not in (RandomSampler, SequentialSampler):
        return None
    sampler: Any = loader.sampler
    count = len(sampler)
    rest = count % size
    if not rest or count < size or loader.batch_size != size:
        return None
    data: Any = loader.dataset
    with sandbox.trial():
        try:
            batch = loader.collate_fn([data[i] for i in range(count - rest, count)])
            batch = batches.to_device(batch, sandbox.device)
        except Exception:  # noqa: BLE001  # the data set's own trouble is the loader's to tell
            return None
        try:
            sandbox.forward(batch)
        except TargetError as error:
            return LastBatch(samples=rest, failure=error.message, places=error.places)
    return LastBatch(samples=rest, failure="", places=())
