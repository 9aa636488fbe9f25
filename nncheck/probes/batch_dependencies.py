"""Which inputs each sample's output depends on: gradients between samples, and rows that change places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.swapping import Swap, swapped
from nncheck.observe.mixing import Ends, Leaks, both, first_mixing, leaks, pairs
from nncheck.observe.rows import Rows, compare, like
from nncheck.observe.tracks import Made, Track, follow, freeze
from nncheck.registry import probe
from nncheck.verdict import Place

# Two passes a bit of the index: 64 samples cost 12 backward passes, 128 would cost 14 of twice the size.
MOST_SAMPLES = 64
FEW_SAMPLES = 4
# The full matrix of pairs takes a backward pass a sample; 16 are enough to see a pattern.
PAIR_SAMPLES = 16
# Layers that look at other samples by design, by the name of their class.
BY_DESIGN = re.compile(r"moe|mixture|expert|router|routing|sinkhorn|mini_?batch|mbstd|memory_?bank", re.IGNORECASE)
GRAPHS = {"edge_index", "edge_attr", "edge_weight", "adj", "adj_t", "adjacency", "batch_index", "ptr"}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward"}


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Where samples begin to depend on each other.

    reach: row i, column j is how strongly output i depends on input j, each row scaled to its largest entry; at most 16 samples.
    """

    function: str
    place: Place | None
    reach: tuple[tuple[float, ...], ...]
    by_design: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchDependencies:
    """How the outputs of a batch in eval mode depend on its samples.

    samples, batch_size: samples looked at, of how many.
    passes: groups of samples asked, a backward pass each; 0 if the outputs have no gradient at the inputs.
    inputs, outputs: tensors between which dependence was looked for.
    leaking: groups whose outputs reach other samples; share: the largest such gradient over the largest at an own input.
    mixing: where that starts. swap: whether a sample's place in the batch matters.
    statistics: BatchNorm calls that used the statistics of the batch although the model is in eval mode.
    """

    samples: int
    batch_size: int
    passes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    leaking: int
    share: float
    mixing: Mixing | None
    swap: Swap
    statistics: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class _Few:
    """What a pass over few samples left behind: enough to tell which dimension of a tensor is the batch."""

    samples: int
    arguments: list[torch.Size]
    sources: list[torch.Size]
    outputs: list[torch.Size]
    lengths: set[int]


@probe
def batch_dependencies(sandbox: Sandbox) -> BatchDependencies:
    """Two backward passes for each bit of the sample index, in eval mode, with BatchNorm's batch statistics held constant."""
    batch = sandbox.feed.first
    size = batches.size(batch)
    collated = _collated(sandbox.setup.train_loader)
    _refuse(batch, size, collated=collated)
    few = _with_few(sandbox, batch, min(FEW_SAMPLES, size - 1))
    if few is None and not collated:
        raise CannotMeasure(
            "the model takes only the whole batch: its rows may belong together, as nodes of a graph do"
        )
    count = _unlike(few.lengths, min(MOST_SAMPLES, size)) if few else size
    with sandbox.trial(mode="eval"):
        track = _marked(sandbox, _part(batch, count))
        outputs, left_out = _rows(track.outputs, few.outputs if few else None, few, count)
        if not outputs and not left_out and _paired(track, batch, size):
            # The loss pairs row r with target r although the rows do not follow the batch: ask the whole batch row by row.
            few, count = None, size
            track = _marked(sandbox, batch)
            outputs, left_out = _rows(track.outputs, None, None, count)
        if not outputs:
            raise CannotMeasure(_why_no_rows(left_out))
        sources, _ = _rows(track.sources, few.sources if few else None, few, count)
        alive = [(name, t, rows) for name, t, rows in outputs if t.requires_grad]
        found = Leaks(found=(), passes=0, finite=True)
        if alive and sources:
            found, alive = _independent(sandbox, sources, alive, count)
            if not found.found and not found.finite:
                raise CannotMeasure("the gradient between samples is not finite")
        statistics = tuple(dict.fromkeys(track.statistics))
        del track
    mixing = _locate(sandbox, batch, few, count, collated=collated) if found.found else None
    swap = Swap(reason="samples depend on each other already")
    if not found.found:
        swap = swapped(
            sandbox, batch, lambda t, k: _arguments(few, t, k), _unlike(few.lengths, min(8, size)) if few else size
        )
        if not found.passes and swap.change is None:
            raise CannotMeasure(f"the outputs have no gradient at the inputs, and {swap.reason}")
    return BatchDependencies(
        samples=count,
        batch_size=size,
        passes=found.passes,
        inputs=tuple(dict.fromkeys(name or "the input" for name, _, _ in sources)),
        outputs=tuple(name or "the output" for name, _, _ in outputs),
        leaking=len({(leak.bit, leak.value) for leak in found.found}),
        share=max((leak.share for leak in found.found), default=0.0),
        mixing=mixing,
        swap=swap,
        statistics=statistics,
    )


def _marked(sandbox: Sandbox, batch: Any, **options: Any) -> Track:
    freeze(sandbox.model)
    try:
        return follow(sandbox, batch, **options)
    except TargetError as error:
        raise CannotMeasure(f"the model does not run in eval mode with its inputs followed: {error.message}") from error


def _with_few(sandbox: Sandbox, batch: Any, samples: int) -> _Few | None:
    """The shapes of a pass over a few samples; None if the model does not take fewer."""
    try:
        with sandbox.trial(mode="eval"):
            freeze(sandbox.model)
            track = follow(sandbox, _part(batch, samples))
            return _Few(
                samples=samples,
                arguments=[t.shape for _, t in track.arguments],
                sources=[t.shape for _, t in track.sources],
                outputs=[t.shape for _, t in track.outputs],
                lengths=track.lengths,
            )
    except TargetError:
        return None


def _part(batch: Any, samples: int) -> Any:
    return batch if samples == batches.size(batch) else batches.take(batch, torch.arange(samples))


def _rows(
    tensors: list[tuple[str, Tensor]], shapes: list[torch.Size] | None, few: _Few | None, count: int
) -> tuple[list[tuple[str, Tensor, Rows]], tuple[str, ...]]:
    """The tensors that have rows of samples, with these; and the names of those with several dimensions of the batch's length."""
    found, left_out = [], []
    for k, (name, tensor) in enumerate(tensors):
        if few is not None and shapes is not None and len(shapes) == len(tensors):
            rows = compare(shapes[k], tensor.shape, samples_few=few.samples, samples=count)
        else:
            rows = like(tensor.shape, count)
        if rows == "pairs":
            left_out.append(name or "the output")
        elif isinstance(rows, Rows):
            found.append((name, tensor, rows))
    return found, tuple(left_out)


def _arguments(few: _Few | None, track: Track, count: int) -> list[Rows | str | None]:
    """How each argument of the model follows the batch, in order."""
    shapes = [t.shape for _, t in track.arguments]
    if few is None or len(few.arguments) != len(shapes) or few.samples == count:
        return [like(shape, count) for shape in shapes]
    return [compare(a, b, samples_few=few.samples, samples=count) for a, b in zip(few.arguments, shapes, strict=True)]


def _independent(
    sandbox: Sandbox, sources: list[tuple[str, Tensor, Rows]], outputs: list[tuple[str, Tensor, Rows]], count: int
) -> tuple[Leaks, list[tuple[str, Tensor, Rows]]]:
    """Reach between samples. Where a sample has several rows of output, under the reading of these that couples less."""
    unit = torch.empty(count, 1)
    ends: Ends = [(t, rows) for _, t, rows in sources]
    found = leaks(sandbox, unit, ends, [(t, rows) for _, t, rows in outputs], count)
    if not found.found or all(rows.each == 1 for _, _, rows in outputs):
        return found, outputs
    turned = [(name, t, both(rows)[-1]) for name, t, rows in outputs]
    other = leaks(sandbox, unit, ends, [(t, rows) for _, t, rows in turned], count)
    passes = found.passes + other.passes
    if len(other.found) < len(found.found):
        found, outputs = other, turned
    return Leaks(found=found.found, passes=passes, finite=found.finite), outputs


def _locate(sandbox: Sandbox, batch: Any, few: _Few | None, count: int, *, collated: bool) -> Mixing:
    """The pairs that reach each other, and the first call that couples them."""
    samples = _unlike(few.lengths, min(PAIR_SAMPLES, count)) if few else count
    unit = torch.empty(samples, 1)
    with sandbox.trial(mode="eval"):
        track = _marked(sandbox, _part(batch, samples), keep=lambda t: t.requires_grad and samples in t.shape)
        sources, _ = _rows(track.sources, few.sources if few else None, few, samples)
        outputs, _ = _rows(track.outputs, few.outputs if few else None, few, samples)
        outputs = [(name, t, rows) for name, t, rows in outputs if t.requires_grad]
        ends: Ends = [(t, rows) for _, t, rows in sources]
        reach: tuple[tuple[float, ...], ...] = ()
        if samples <= PAIR_SAMPLES and outputs:
            reach = pairs(sandbox, unit, ends, [(t, rows) for _, t, rows in outputs], samples)
        made = first_mixing(sandbox, unit, ends, track.made, samples)
        if made is None:
            return Mixing(function="", place=None, reach=reach)
        return Mixing(
            function=made.function,
            place=made.place,
            reach=reach,
            by_design=_by_design(sandbox.model, made, collated=collated),
        )


def _by_design(model: nn.Module, made: Made, *, collated: bool) -> str:
    module: Any = model
    for part in made.layer.split(".") if made.layer else []:
        module = getattr(module, part, None)
        name = type(module).__name__
        if BY_DESIGN.search(name):
            return f"{name} ({made.layer}) looks at other samples by design"
    if BY_DESIGN.search(type(model).__name__):
        return f"{type(model).__name__} looks at other samples by design"
    unbatched = made.tensor.ndim == 2 or (
        made.tensor.ndim == 3 and 1 in made.tensor.shape[:2]
    )  # torch adds a batch of one
    if not collated and made.function in RECURRENT and unbatched:
        return f"{made.function} is given one sequence without a batch dimension: its rows are time steps"
    return ""


def _unlike(lengths: set[int], most: int) -> int:
    """A number of samples, at most `most`, that no other dimension has; `most` if there is none from half of it on."""
    return next((n for n in range(most, max(2, most // 2), -1) if n not in lengths), most)


def _collated(loader: Any) -> bool:
    """Whether the loader stacks samples along dimension 0."""
    return isinstance(loader, DataLoader) and loader.batch_size is not None and loader.collate_fn is default_collate


def _refuse(batch: Any, size: int, *, collated: bool) -> None:
    """Raise CannotMeasure for batches whose dimension 0 is known not to be samples."""
    if size < 2:
        raise CannotMeasure("needs a batch of at least two samples")
    keys = set(batch) if isinstance(batch, Mapping) else set(getattr(batch, "_fields", ()))
    keys = {key for key in keys if isinstance(key, str)}
    inputs, _ = batches.split(batch)
    tensors = [t for _, t in batches.named_tensors(inputs)]
    if keys & GRAPHS or any(t.layout is not torch.strided for t in tensors):
        raise CannotMeasure("the batch is a graph: its rows are nodes, not samples")
    if not collated:
        if isinstance(inputs, list) and len({t.shape for t in tensors}) > 1:
            raise CannotMeasure("the inputs are a list of tensors of different shapes")
        if any(list(t.shape).count(size) > 1 for t in tensors):
            raise CannotMeasure(f"two dimensions of an input have length {size}: which one is the batch cannot be told")


def _paired(track: Track, batch: Any, size: int) -> bool:
    _, target = batches.split(batch)
    first = next((t for _, t in batches.named_tensors(target) if t.ndim), None)
    return first is not None and first.shape[0] == size and any(t.ndim and t.shape[0] == size for _, t in track.outputs)


def _why_no_rows(left_out: tuple[str, ...]) -> str:
    if left_out:
        return f"{', '.join(left_out)}: several dimensions follow the batch, as in a similarity matrix of its samples"
    return "no output has a dimension that follows the number of samples"
