"""Which samples reach which: exact zeros in gradients between rows, for groups of samples, for pairs, and call by call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.rows import Rows, like
from nncheck.observe.tracks import Made

# Independent samples share no path, so their gradient is exactly zero and there is nothing to tune. What is allowed here is
# rounding where paths cancel exactly on paper: softmax(x - x.max()) over all rows leaves 1e-9 to 1e-7 of the own gradient
# in float32. Every coupling measured was above 1e-3 (softmax over the batch, B = 64: 0.02).
ROUNDING = 8.0
# More calls than this are not kept for the search of the first that mixes; the search then tells the layer of the last one kept.
KEPT_CALLS = 20_000


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A group of samples (those whose index has `value` at `bit`) whose outputs reach other samples' inputs.

    share: largest gradient at another sample's input over the largest at an own one; infinite if the own are all zero.
    """

    bit: int
    value: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What the group passes found; `finite` is False if a gradient between samples was NaN or infinite."""

    found: tuple[Leak, ...]
    passes: int
    finite: bool


Ends = Sequence[tuple[Tensor, Rows]]


def groups(samples: int) -> list[tuple[int, int]]:
    """Bit and value: every ordered pair of different indices differs in a bit, so one of these groups parts it."""
    return [(bit, value) for bit in range(math.ceil(math.log2(samples))) for value in (0, 1)]


def members(samples: int, bit: int, value: int, device: torch.device) -> Tensor:
    """Which samples belong to a group."""
    return (torch.arange(samples, device=device) >> bit & 1) == value


def per_sample(outputs: Ends, *, seed: int = 0) -> Tensor:
    """One number a sample: its outputs under random weights. A plain sum would cancel in softmax and LayerNorm."""
    generator = torch.Generator().manual_seed(seed)
    total: Tensor | None = None
    for tensor, rows in outputs:
        weights = torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
        each = rows.by_sample(tensor * weights).sum(1).double()
        total = each if total is None else total + each
    assert total is not None
    return total


def leaks(sandbox: Sandbox, batch: object, sources: Ends, outputs: Ends, samples: int) -> Leaks:
    """Reach between groups, one backward pass each."""
    scores = per_sample(outputs)
    leaves = [leaf for leaf, _ in sources]
    # Where a sample has several rows there are two ways to read them; samples are independent if they are under one.
    readings = [(k, r) for k, (_, rows) in enumerate(sources) for r in both(rows)]
    found: dict[tuple[int, Rows], list[Leak]] = {reading: [] for reading in readings}
    finite = True
    passes = 0
    for bit, value in groups(samples):
        sandbox.check_time()
        own = members(samples, bit, value, scores.device)
        if not own.any():
            continue
        gradients = backwards(sandbox, scores[own].sum(), leaves, batch)
        passes += 1
        for k, rows in readings:
            gradient = gradients[k]
            if gradient is None:
                continue
            reached = rows.by_sample(gradient.abs()).amax(1)
            inside, outside = float(reached[own].max()), float(reached[~own].max())
            if not math.isfinite(outside):
                finite = False
            elif outside > ROUNDING * torch.finfo(gradient.dtype).eps * (inside if math.isfinite(inside) else 0.0):
                share = outside / inside if inside else math.inf
                found[k, rows].append(Leak(bit=bit, value=value, share=share))
    worst: list[Leak] = []
    for k in range(len(sources)):
        ways = sorted((found[reading] for reading in readings if reading[0] == k), key=lambda way: len(way))
        if ways[0]:
            worst.extend(ways[0])
    return Leaks(found=tuple(worst), passes=passes, finite=finite)


def backwards(sandbox: Sandbox, score: Tensor, leaves: list[Tensor], batch: object) -> tuple[Tensor | None, ...]:
    """One of several backward passes through the same graph. Raises CannotMeasure if the user's code does not stand it."""
    try:
        return sandbox.grad(score, leaves, batch, retain_graph=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:  # a backward of the user's
        raise CannotMeasure(f"the backward pass to the inputs failed: {str(error).splitlines()[0]}") from error


def both(rows: Rows) -> list[Rows]:
    """The ways to read rows: one, or two where a sample has several."""
    return [rows] if rows.each == 1 else [rows, replace(rows, together=not rows.together)]


def pairs(sandbox: Sandbox, batch: object, sources: Ends, outputs: Ends, samples: int) -> tuple[tuple[float, ...], ...]:
    """Reach of every ordered pair, one backward pass a sample: row i, column j is the largest gradient of output i at input j.

    Rows are scaled to their largest entry.
    """
    scores = per_sample(outputs)
    leaves = [leaf for leaf, _ in sources]
    matrix: list[tuple[float, ...]] = []
    for i in range(samples):
        gradients = backwards(sandbox, scores[i], leaves, batch)
        reached = torch.zeros(samples, dtype=torch.double)
        for gradient, (_, rows) in zip(gradients, sources, strict=True):
            if gradient is not None:
                row = rows.by_sample(gradient.abs()).amax(1).nan_to_num(nan=1.0, posinf=1.0).double().cpu()
                row[row <= ROUNDING * torch.finfo(gradient.dtype).eps * row.max()] = 0.0
                reached = torch.maximum(reached, row)
        matrix.append(tuple((reached / reached.max().clamp_min(1e-300)).tolist()))
    return tuple(matrix)


def first_mixing(sandbox: Sandbox, batch: object, sources: Ends, made: Sequence[Made], samples: int) -> Made | None:
    """The first call of which a sample's row reaches another sample, by bisection: one backward pass for all calls so far.

    Rows are found by the length of a dimension, so `samples` must be unlike every other length.
    """
    rowed = [(m, rows) for m in made[:KEPT_CALLS] if m.tensor.requires_grad and (rows := like(m.tensor.shape, samples))]
    if not rowed:
        return None
    leaves = [leaf for leaf, _ in sources]
    # Scores add up call by call, so the scores of all calls so far are one running sum.
    ends = [(m.tensor, rows) for m, rows in rowed]

    def mixes(upto: int, group: tuple[int, int]) -> bool:
        scores = per_sample(ends[: upto + 1])
        own = members(samples, *group, scores.device)
        gradients = backwards(sandbox, scores[own].sum(), leaves, batch)
        for gradient, (_, rows) in zip(gradients, sources, strict=True):
            if gradient is None:
                continue
            reached = [r.by_sample(gradient.abs()).amax(1) for r in both(rows)]
            limit = ROUNDING * torch.finfo(gradient.dtype).eps
            if all(float(r[~own].max()) > limit * float(r[own].max()) for r in reached):
                return True
        return False

    last = len(ends) - 1
    group = next((g for g in groups(samples) if mixes(last, g)), None)
    if group is None:
        return None
    low, high = 0, last
    while low < high:
        sandbox.check_time()
        middle = (low + high) // 2
        if mixes(middle, group):
            high = middle
        else:
            low = middle + 1
    return rowed[low][0]
