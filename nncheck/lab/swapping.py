"""Does a sample's place in the batch matter? The rows of a batch change places, and the outputs must change with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import TargetError
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.rows import Rows, like
from nncheck.observe.tracks import Made, Track, follow, freeze
from nncheck.verdict import Place

# Rows computed at another place of the same batch differ by at most 6e-7 relative on sound models (other blocking of the same
# sums); a positional encoding indexed by the row gives 0.49.
TOLERANCE = 1e-4
# Choices that depend on the data may depend on its order too: experts have a capacity, ties are broken.
CHOICES = {"topk", "argmax", "argmin", "sort", "argsort", "cumsum", "nonzero", "bincount", "multinomial", "unique"}


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What changed when samples changed places.

    change: median over samples of the relative change of its output; None if it could not be asked, for `reason`.
    moved: the part of the samples whose output changed by more than 1e-4. place: the first call whose result did.
    """

    change: float | None = None
    moved: float = 0.0
    reason: str = ""
    place: Place | None = None
    function: str = ""


def swapped(
    sandbox: Sandbox, batch: Any, rows_of: Callable[[Track, int], list[Rows | str | None]], samples: int
) -> Swap:
    """Run some samples, then the same in another order, in eval mode."""
    part = batch if samples == batches.size(batch) else batches.take(batch, torch.arange(samples))
    order = torch.arange(samples).roll(1)
    try:
        as_given = _run(sandbox, part)
        if as_given.random:
            return Swap(reason="the model draws random numbers in eval mode")
        if as_given.stateful:
            return Swap(reason="the model keeps a state from pass to pass")
        if as_given.ragged:
            return Swap(reason="a list comes beside the tensors, one entry a sample")
        rows = rows_of(as_given, samples)
        if any(isinstance(r, str) or (isinstance(r, Rows) and r.each > 1) for r in rows) or not any(rows):
            return Swap(reason="it cannot be told which rows of the inputs are samples")
        in_order = _run(sandbox, part, change=_mover(rows, order))
    except TargetError:
        return Swap(reason="the model does not take the samples in another order")
    change, moved = _difference(as_given.outputs, in_order.outputs, samples, order)
    if change is None:
        return Swap(reason="the outputs are not finite, or have no rows of samples")
    if moved <= 0.5:
        return Swap(change=change, moved=moved)
    # Only now are single calls of interest.
    calls = _run(sandbox, part, keep=True).made
    first = _first(calls, _run(sandbox, part, change=_mover(rows, order), keep=True).made, samples, order)
    seen = as_given.functions if first is None else as_given.functions[: first[1]]
    if CHOICES & set(seen):
        return Swap(
            reason="which computation a sample gets is chosen from the data, as experts are, so its place may matter"
        )
    return Swap(
        change=change, moved=moved, place=first[0].place if first else None, function=first[0].function if first else ""
    )


def _run(sandbox: Sandbox, part: Any, *, change: Callable[[Tensor], Tensor] | None = None, keep: bool = False) -> Track:
    samples = batches.size(part)
    with sandbox.trial(mode="eval"):
        freeze(sandbox.model)
        return follow(sandbox, part, change=change, keep=(lambda t: samples in t.shape) if keep else None)


def _mover(rows: list[Rows | str | None], order: Tensor) -> Callable[[Tensor], Tensor]:
    """Puts the samples of the model's arguments, told of in turn, into another order."""
    follows = iter(rows)

    def move(tensor: Tensor) -> Tensor:
        row = next(follows, None)
        return tensor.index_select(row.dim, order.to(tensor.device)) if isinstance(row, Rows) else tensor

    return move


def _difference(
    before: list[tuple[str, Tensor]], after: list[tuple[str, Tensor]], samples: int, order: Tensor
) -> tuple[float | None, float]:
    """Median relative change of a sample's outputs, and the part of samples with a change beyond rounding."""
    worst: Tensor | None = None
    if len(before) != len(after):
        return None, 0.0
    for (_, a), (_, b) in zip(before, after, strict=True):
        change = _change(a, b, samples, order)
        if change is not None:
            worst = change if worst is None else torch.maximum(worst, change)
    if worst is None or not bool(torch.isfinite(worst).all()):
        return None, 0.0
    return float(worst.median()), float((worst > TOLERANCE).double().mean())


def _change(a: Tensor, b: Tensor, samples: int, order: Tensor) -> Tensor | None:
    """How far each sample's row moved, relative to the largest entry of all; None if there are no such rows."""
    rows = like(a.shape, samples)
    if rows is None or a.shape != b.shape or list(a.shape).count(samples) > 1:
        return None
    first, second = rows.by_sample(a.detach()).double(), rows.by_sample(b.detach()).double()
    if first.shape[1] == 0:
        return None
    gap = (first.index_select(0, order.to(first.device)) - second).abs().amax(1)
    return (gap / first.abs().max().clamp_min(1e-30)).cpu()


def _first(before: list[Made], after: list[Made], samples: int, order: Tensor) -> tuple[Made, int] | None:
    """The first call whose rows did not change places with the samples, and how many calls came before it."""
    for a, b in zip(before, after, strict=False):
        if a.function != b.function or not a.tensor.requires_grad:
            continue  # constants are no samples' rows
        change = _change(a.tensor, b.tensor, samples, order)
        if change is not None and bool((change > TOLERANCE).any()):
            return a, a.calls
    return None
