"""A schedule as it runs if it is stepped once a batch, or once an epoch."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from nncheck.probes.lr_schedule import LrSchedule, Part


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The schedule stepped once a `unit` ("update" or "epoch"); `run`: how many steps the whole training is, if known."""

    seen: LrSchedule
    unit: str

    @property
    def run(self) -> int | None:
        epochs, batches = self.seen.epochs, self.seen.batches
        if self.unit == "update" and self.seen.updates is not None:
            return self.seen.updates
        if epochs is None:
            return None
        if self.unit == "epoch":
            return epochs
        return None if batches is None or self.seen.accumulates else epochs * batches

    @property
    def followed(self) -> int:
        return self.seen.steps[-1]

    def at(self, step: int) -> float:
        """The rate after so many steps, relative to the highest ever."""
        return self.seen.relative[min(bisect_left(self.seen.steps, step), len(self.seen.steps) - 1)]

    def until(self, end: int) -> list[tuple[int, float]]:
        """Steps and relative rates before `end`."""
        stop = bisect_left(self.seen.steps, end)
        return list(zip(self.seen.steps[:stop], self.seen.relative[:stop], strict=True))

    def times(self, step: int) -> str:
        """`update 12 of 300`."""
        return f"{self.unit} {step:,}" + (f" of {self.run:,}" if self.run else "")

    @property
    def right_length(self) -> str:
        return "epochs" if self.unit == "epoch" else "epochs * len(train_loader)"

    def planned(self) -> Part | None:
        """The part whose given length ends last."""
        ends = [
            part for part in self.seen.parts if part.length is not None and part.kind not in ("ConstantLR", "LinearLR")
        ]
        return max(ends, key=lambda part: part.begin + (part.length or 0), default=None)


def by_batch(seen: LrSchedule) -> bool:
    """Whether a schedule's form is that of one stepped after every batch: one cycle, a warm-up, a length that fits the batches."""
    if any(part.kind in ("OneCycleLR", "CyclicLR") for part in seen.parts):
        return True
    planned = Reading(seen=seen, unit="update").planned()
    if planned is not None and planned.length:
        length = planned.begin + planned.length
        if seen.epochs:
            return length > 2 * seen.epochs
        return length >= 1000 or bool(seen.batches and seen.batches > 1 and length > 100 and length % seen.batches == 0)
    return bool(seen.relative) and seen.relative[0] < 0.5
