"""The one meter: every forward and backward pass of the user's model goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# One training step is one forward and one backward on the user's batch, and a backward costs about two forwards:
# each layer multiplies once for its input's gradient and once for its weight's (Kaplan et al. 2020, appendix B: 2N and 4N
# FLOPs per token). The update itself is counted with neither.
FORWARD_SHARE = 1 / 3
BACKWARD_SHARE = 2 / 3
# What all checks of one set-up may cost together. A run that could end above it is not begun, and the check that wanted it says so.
LIMIT = 500.0
# ... of which so much is kept for the single passes of checks that are asked last, and for those at the ends of a run.
KEPT = 20.0
ENOUGH = "the checks have cost as many training steps as they may"


@dataclass
class Meter:
    """Forward and backward passes so far, in units of one pass over the user's batch, and whom they served."""

    forward: float = 0.0
    backward: float = 0.0
    by_probe: dict[str, float] = field(default_factory=dict)
    _charged: str = "loading"

    @property
    def train_steps(self) -> float:
        """Training-step equivalents: 1 = one forward, backward and update on the user's batch."""
        return self.forward * FORWARD_SHARE + self.backward * BACKWARD_SHARE

    def affords(self, steps: float) -> bool:
        """Whether a run of so many training steps still fits under the limit."""
        return self.train_steps + steps <= LIMIT - KEPT

    def until(self, most: float) -> float:
        """Where the meter may stand when `most` steps more have been spent; sooner if the limit is reached before."""
        return min(self.train_steps + most, LIMIT - KEPT)

    @contextmanager
    def charge(self, probe: str) -> Iterator[None]:
        """Book what passes inside on `probe`."""
        outer, self._charged = self._charged, probe
        try:
            yield
        finally:
            self._charged = outer

    def count(self, *, forward: float = 0.0, backward: float = 0.0) -> None:
        """Add passes; a pass over fewer samples than the user's batch counts in proportion."""
        self.forward += forward
        self.backward += backward
        steps = forward * FORWARD_SHARE + backward * BACKWARD_SHARE
        self.by_probe[self._charged] = self.by_probe.get(self._charged, 0.0) + steps
