"""Input tensors as the loader gives them: range and spread in all and along each axis, constant samples, distinct values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.survey.moments import Moments, Spread
from nncheck.survey.walk import Part, SeenBatch

# Small batches are gathered to this many values before anything is computed: a million samples of ten numbers then cost
# seconds, not minutes.
CHUNK = 1 << 16
# Of a larger batch, as many samples as hold this many values are looked at (at least one): images of 224 x 224 would else
# take longer to sum than to load.
MOST_VALUES = 1 << 20
# Axes longer than this have no result of their own: no table of so many features is shown or judged one by one.
LONGEST_AXIS = 4096
# Distinct values are told apart up to this number: enough for grey levels, categories and flags.
MOST_DISTINCT = 1024
# So many constant samples are named.
NAMED = 8


@dataclass(frozen=True, kw_only=True)
class InputStatistics:
    """One input tensor over the pass.

    kind: "float", "integer" or "bool". shape: of one sample, in the first batch. samples: how many; looked_at: of how many the
    values were summed up (large batches in part). values: how many numbers that is. low, high, mean, std: over all finite ones.
    whole: share of all values that are whole numbers. distinct: different values, or None if more than 1024.
    axes: (axis of the batch tensor, spread per position), for axes that keep their length; a tabular input's features are axis 1.
    constant: samples all of whose values are equal (samples with one value are not counted), images by channel; the first of them,
    by position in the pass, their mean values, and their labels where each sample has one.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    samples: int
    looked_at: int
    values: int
    low: float
    high: float
    mean: float
    std: float
    whole: float
    distinct: int | None
    axes: tuple[tuple[int, Spread], ...]
    constant: int
    constant_at: tuple[int, ...]
    constant_values: tuple[float, ...]
    constant_labels: tuple[float, ...]


class Features:
    """An accumulator of `InputStatistics`, one per input tensor."""

    def __init__(self) -> None:
        self._tensors: dict[str, _One] = {}

    def add(self, index: int, seen: SeenBatch) -> None:
        labels = next((part.rows for part in seen.targets if part.rows.numel() == seen.size), None)
        for part in seen.inputs:
            if part.rows.is_complex():
                part = Part(name=part.name, rows=torch.view_as_real(part.rows.resolve_conj()))
            self._tensors.setdefault(part.name, _One(part)).add(part.rows, seen.begin, labels)

    def result(self) -> tuple[InputStatistics, ...]:
        return tuple(one.result() for one in self._tensors.values())


class _One:
    """One input tensor."""

    def __init__(self, first: Part) -> None:
        rows = first.rows
        self._name = first.name
        self._dtype = rows.dtype
        self._shape = tuple(rows.shape[1:])
        self._held: list[Tensor] = []
        self._held_values = 0
        self._samples = self._looked_at = self._values = 0
        self._whole = 0
        self._all = Moments()
        self._axes = {axis: Moments() for axis in range(1, rows.ndim) if rows.size(axis) <= LONGEST_AXIS}
        self._distinct: set[float] | None = set()
        self._constant = 0
        self._constant_at: list[tuple[int, float]] = []
        self._constant_labels: list[float] = []

    def add(self, rows: Tensor, begin: int, labels: Tensor | None) -> None:
        self._samples += rows.size(0)
        self._flat(rows, begin, labels)
        per_sample = max(1, rows.numel() // max(1, rows.size(0)))
        rows = rows[: max(1, MOST_VALUES // per_sample)]
        if self._held and self._held[0].shape[1:] != rows.shape[1:]:
            self._flush()
        # A loader may hand out the same buffer again and again.
        self._held.append(rows.clone() if rows.numel() < CHUNK else rows)
        self._held_values += rows.numel()
        if self._held_values >= CHUNK:
            self._flush()

    def _flat(self, rows: Tensor, begin: int, labels: Tensor | None) -> None:
        """Constant samples, images by channel: a black one is not one value any more once its channels were standardised."""
        if rows[0:1].numel() < 2:
            return
        x = rows.to(_comparable(rows.dtype))
        if rows.ndim == 4 and rows.size(-1) in (1, 3, 4) and rows.size(1) not in (1, 3, 4):
            x = x.movedim(-1, 1)
        channels = x.size(1) if rows.ndim == 4 and x.size(1) in (1, 3, 4) else 1
        low, high = torch.aminmax(x.reshape(x.size(0), channels, -1), dim=2)
        same = (low == high).all(1).nonzero().flatten()
        self._constant += same.numel()
        for i in same[: NAMED - len(self._constant_at)].tolist():
            self._constant_at.append((begin + i, float(low[i].double().mean())))
            if labels is not None:
                self._constant_labels.append(float(labels.flatten()[i]))

    def _flush(self) -> None:
        if not self._held:
            return
        rows = torch.cat(self._held) if len(self._held) > 1 else self._held[0]
        self._held, self._held_values = [], 0
        x = rows.double()
        finite = torch.isfinite(x)
        bad = x.numel() - int(finite.sum())
        if bad:
            x = torch.where(finite, x, 0.0)
        self._looked_at += x.size(0)
        self._values += x.numel()
        self._whole += int((x == x.round()).sum()) - bad
        self._all.add(x.reshape(-1, 1))
        for axis, moments in self._axes.items():
            if axis < x.ndim and x.size(axis) == self._shape[axis - 1]:
                moments.add(x.movedim(axis, -1).reshape(-1, x.size(axis)))
        if self._distinct is not None:
            values = torch.unique(x.flatten()[:CHUNK])
            if values.numel() <= MOST_DISTINCT:
                self._distinct.update(values.tolist())
            if values.numel() > MOST_DISTINCT or len(self._distinct) > MOST_DISTINCT:
                self._distinct = None

    def result(self) -> InputStatistics:
        self._flush()
        spread = self._all.result()
        nan = float("nan")
        return InputStatistics(
            name=self._name,
            kind=_kind(self._dtype),
            dtype=str(self._dtype).removeprefix("torch."),
            shape=self._shape,
            samples=self._samples,
            looked_at=self._looked_at,
            values=self._values,
            low=spread.low[0] if spread.low else nan,
            high=spread.high[0] if spread.high else nan,
            mean=spread.mean[0] if spread.mean else nan,
            std=spread.std[0] if spread.std else nan,
            whole=self._whole / max(1, self._values),
            distinct=None if self._distinct is None else len(self._distinct),
            axes=tuple((axis, m.result()) for axis, m in self._axes.items() if len(m.result())),
            constant=self._constant,
            constant_at=tuple(at for at, _ in self._constant_at),
            constant_values=tuple(value for _, value in self._constant_at),
            constant_labels=tuple(self._constant_labels),
        )


def _kind(dtype: torch.dtype) -> str:
    if dtype is torch.bool:
        return "bool"
    return "float" if dtype.is_floating_point else "integer"


def _comparable(dtype: torch.dtype) -> torch.dtype:
    """A dtype in which smallest and largest are known everywhere."""
    return (
        torch.uint8
        if dtype is torch.bool
        else torch.float32
        if dtype.itemsize < 4 and dtype.is_floating_point
        else dtype
    )
