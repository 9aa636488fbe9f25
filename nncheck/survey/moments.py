"""Mean, spread and range of a growing number of values, merged chunk by chunk in float64 (Chan, Golub and LeVeque, 1979)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Per position of one axis: mean, standard deviation, smallest and largest value."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.mean)


class Moments:
    """Sums over the rows of (N, K) chunks, one result per column."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Merge a chunk (N, K) of finite float64 values; one with another K is left out."""
        number = rows.size(0)
        if not number or (self._mean is not None and rows.size(1) != self._mean.numel()):
            return
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        low, high = torch.aminmax(rows, dim=0)
        if self._mean is None or self._squares is None or self._low is None or self._high is None:
            self._count, self._mean, self._squares, self._low, self._high = number, mean, variance * number, low, high
            return
        total = self._count + number
        apart = mean - self._mean
        self._squares = self._squares + variance * number + apart * apart * (self._count * number / total)
        self._mean = self._mean + apart * (number / total)
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        self._count = total

    def result(self) -> Spread:
        """What was merged; empty if nothing was."""
        if self._mean is None or self._squares is None or self._low is None or self._high is None:
            return Spread(mean=(), std=(), low=(), high=())
        std = (self._squares / self._count).clamp_min(0).sqrt()
        return Spread(
            mean=tuple(self._mean.tolist()), std=tuple(std.tolist()), low=tuple(self._low.tolist()),
            high=tuple(self._high.tolist()),
        )  # fmt: skip
