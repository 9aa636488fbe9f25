"""Which rows of a tensor belong to which sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Samples lie along `dim`, `each` rows a sample; `together`: a sample's rows lie side by side, not `each` blocks of samples."""

    dim: int
    each: int = 1
    together: bool = True

    def by_sample(self, tensor: Tensor) -> Tensor:
        """The tensor as (samples, everything else)."""
        front = tensor.movedim(self.dim, 0)
        if self.each == 1:
            return front.reshape(front.shape[0], -1)
        samples = front.shape[0] // self.each
        if self.together:
            return front.reshape(samples, -1)
        return front.reshape(self.each, samples, -1).transpose(0, 1).reshape(samples, -1)


def compare(few: Sequence[int], many: Sequence[int], *, samples_few: int, samples: int) -> Rows | str | None:
    """How a shape follows the number of samples: its rows; None if it does not; "pairs" if several dimensions do."""
    if len(few) != len(many):
        return None
    changed = [d for d in range(len(many)) if few[d] != many[d]]
    if len(changed) > 1:
        return "pairs"
    if not changed:
        return None
    dim = changed[0]
    each, rest = divmod(many[dim], samples)
    if rest or each * samples_few != few[dim] or not each:
        return "pairs"
    return Rows(dim=dim, each=each)


def like(shape: Sequence[int], samples: int) -> Rows | None:
    """The first dimension as long as the batch."""
    return Rows(dim=list(shape).index(samples)) if samples in shape else None
