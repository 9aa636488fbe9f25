"""Target tensors as the loader gives them: how often each value comes, ranges, sums of rows, batches with a single value."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.survey.features import CHUNK, LONGEST_AXIS, MOST_VALUES
from nncheck.survey.moments import Moments, Spread
from nncheck.survey.walk import Part, SeenBatch

# Values are counted one by one up to this many different ones: the largest vocabularies have 262,144 tokens.
MOST_COUNTED = 1 << 19
# A float target with more different values than this is a measurement, and its values are not counted.
MOST_FLOATS = 1024
# A float input of more values a sample than this is no label.
FEW = 16
# So many values are kept for a picture of a float target's distribution.
MOST_KEPT = 1 << 14
# A row of float32 probabilities sums to one within rounding; label smoothing and mixing keep it so.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a target of shape (N, K), or (N, K, ...) along axis 1: K values that may be shares or yes/no answers.

    number: rows. to_one: share of them that sum to one. all_zero: share that are all zero. low_sum, high_sum: of their sums.
    """

    number: int
    to_one: float
    all_zero: float
    low_sum: float
    high_sum: float


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """One target tensor over the pass.

    kind: "float", "integer" or "bool". shape: of one sample, in the first batch. samples, values: how many. low, high, mean, std:
    over all finite values. whole: share that are whole numbers. counts: (value, how often), ascending, or None if there are too
    many different ones. columns: spread per position of axis 1, where a sample has an axis. rows: see `Rows`, for float and
    bool targets of two axes or more and integer ones that hold only 0 and 1. one_value_batches: (value, batches in which every
    value is this one). quantiles: 0, 1, ..., 100 %, of up to 16384 values of a float target.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    samples: int
    values: int
    low: float
    high: float
    mean: float
    std: float
    whole: float
    counts: tuple[tuple[float, int], ...] | None
    columns: Spread
    rows: Rows | None
    one_value_batches: tuple[tuple[float, int], ...]
    quantiles: tuple[float, ...]


class Labels:
    """An accumulator of `TargetStatistics`, one per target tensor.

    of_inputs: of the inputs in place of the targets, as far as they may be labels: a step of the user's own decides what is which.
    """

    def __init__(self, *, of_inputs: bool = False) -> None:
        self._of_inputs = of_inputs
        self._tensors: dict[str, _One] = {}

    def add(self, index: int, seen: SeenBatch) -> None:
        for part in seen.inputs if self._of_inputs else seen.targets:
            if self._of_inputs and part.rows.is_floating_point() and part.rows[0:1].numel() > FEW:
                continue
            if not part.rows.is_complex() and part.rows.numel():
                self._tensors.setdefault(part.name, _One(part)).add(part.rows)

    def result(self) -> tuple[TargetStatistics, ...]:
        return tuple(one.result() for one in self._tensors.values())


class _One:
    """One target tensor."""

    def __init__(self, first: Part) -> None:
        self._name = first.name
        self._dtype = first.rows.dtype
        self._shape = tuple(first.rows.shape[1:])
        self._float = self._dtype.is_floating_point
        self._held: list[Tensor] = []
        self._held_values = 0
        self._samples = self._values = self._whole = 0
        self._all, self._columns = Moments(), Moments()
        self._counts: Counter[float] | None = Counter()
        self._one_value: Counter[float] = Counter()
        self._kept: list[Tensor] = []
        self._kept_values = 0
        self._number = self._to_one = self._zero = 0
        self._sums = Moments()

    def add(self, rows: Tensor) -> None:
        self._samples += rows.size(0)
        low, high = torch.aminmax(rows.to(torch.uint8) if rows.dtype is torch.bool else rows)
        if bool(low == high):
            self._one_value[float(low)] += 1
        rows = rows[: max(1, MOST_VALUES // max(1, rows[0:1].numel()))]
        if self._held and self._held[0].shape[1:] != rows.shape[1:]:
            self._flush()
        self._held.append(rows.clone() if rows.numel() < CHUNK else rows)
        self._held_values += rows.numel()
        if self._held_values >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        rows = torch.cat(self._held) if len(self._held) > 1 else self._held[0]
        self._held, self._held_values = [], 0
        x = rows.double()
        finite = torch.isfinite(x)
        if not bool(finite.all()):
            x = torch.where(finite, x, 0.0)
        self._values += x.numel()
        self._whole += int((x == x.round()).sum()) if self._float else x.numel()
        self._all.add(x.reshape(-1, 1))
        if self._counts is not None:
            found = _count(rows, MOST_FLOATS if self._float else MOST_COUNTED)
            if found is not None:
                self._counts.update(found)
            if found is None or len(self._counts) > (MOST_FLOATS if self._float else MOST_COUNTED):
                self._counts = None
        if self._float and self._kept_values < MOST_KEPT:
            self._kept.append(x.flatten()[: MOST_KEPT - self._kept_values])
            self._kept_values += self._kept[-1].numel()
        if x.ndim > 1 and x.size(1) <= LONGEST_AXIS:
            table = x.movedim(1, -1).reshape(-1, x.size(1))
            self._columns.add(table)
            sums = table.sum(1)
            self._number += sums.numel()
            self._to_one += int(((sums - 1).abs() <= SUM_TOLERANCE).sum())
            self._zero += int((table == 0).all(1).sum())
            self._sums.add(sums[:, None])

    def result(self) -> TargetStatistics:
        self._flush()
        spread, sums = self._all.result(), self._sums.result()
        kind = "float" if self._float else "bool" if self._dtype is torch.bool else "integer"
        binary = spread.low[0] >= 0 and spread.high[0] <= 1
        kept = torch.cat(self._kept) if self._kept else None
        return TargetStatistics(
            name=self._name,
            kind=kind,
            dtype=str(self._dtype).removeprefix("torch."),
            shape=self._shape,
            samples=self._samples,
            values=self._values,
            low=spread.low[0],
            high=spread.high[0],
            mean=spread.mean[0],
            std=spread.std[0],
            whole=self._whole / max(1, self._values),
            counts=None if self._counts is None else tuple(sorted(self._counts.items())),
            columns=self._columns.result(),
            rows=Rows(
                number=self._number,
                to_one=self._to_one / self._number,
                all_zero=self._zero / self._number,
                low_sum=sums.low[0],
                high_sum=sums.high[0],
            )
            if self._number and (kind != "integer" or binary)
            else None,
            one_value_batches=tuple(sorted(self._one_value.items())),
            quantiles=()
            if kept is None
            else tuple(torch.quantile(kept, torch.linspace(0, 1, 101, dtype=torch.float64)).tolist()),
        )


def _count(rows: Tensor, most: int) -> dict[float, int] | None:
    """How often each value comes; None if there are more than `most` different ones."""
    flat = rows.flatten()
    if not flat.dtype.is_floating_point:
        flat = flat.long()
        low = int(flat.min())
        if int(flat.max()) - low < MOST_COUNTED:  # counting is ten times as fast as sorting
            counts = torch.bincount(flat - low)
            there = counts.nonzero().flatten()
            return {float(v + low): int(c) for v, c in zip(there.tolist(), counts[there].tolist(), strict=True)}
    values, counts = torch.unique(flat, return_counts=True)
    if values.numel() > most:
        return None
    return {float(v): int(c) for v, c in zip(values.tolist(), counts.tolist(), strict=True)}
