"""Verdicts that another seed might turn: how near the figure lies to its threshold, in standard errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nncheck.verdict import Status, Verdict

# Within two standard errors: farther out chance puts a figure of this size one time in forty (normal approximation).
NEAR = 2.0


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One condition of a finding: `value` above `limit` (or below it, where `above` is False), known to `error`.

    error: one standard error, as measured or counted; 0 or NaN where chance does not move the value. name: "the loss".
    """

    name: str
    value: float
    limit: float
    error: float
    above: bool = True

    @property
    def holds(self) -> bool:
        return self.value > self.limit if self.above else self.value < self.limit

    @property
    def near(self) -> bool:
        apart = abs(self.value - self.limit)
        return math.isfinite(apart) and 0 < self.error < math.inf and apart <= NEAR * self.error

    @property
    def words(self) -> str:
        """`the loss of 2.71 lies 0.05 below the limit of 2.76, with a standard error of 0.04: ...`"""
        apart = self.value - self.limit
        where = f"{abs(apart):.2g} {'above' if apart > 0 else 'below'}" if apart else "just at"
        return (
            f"{self.name} of {self.value:.4g} lies {where} the limit of {self.limit:.4g}, with a standard error of "
            f"{self.error:.2g}: another seed may tell otherwise"
        )


def near(*edges: Edge) -> str:
    """What is said where chance may turn a verdict that needs all of these conditions for a finding; "" where it may not.

    Where all hold, one that is near is enough to turn it; where some do not, all of those have to be near.
    """
    return _turned(edges, [edge for edge in edges if not edge.holds])


def near_either(*edges: Edge) -> str:
    """As `near`, where any one of the conditions makes a finding: where some hold, all of those have to be near."""
    return _turned(edges, [edge for edge in edges if edge.holds])


def _turned(edges: Sequence[Edge], together: Sequence[Edge]) -> str:
    """What turns a verdict: all of those that make it `together`, or any edge where there are none of these."""
    turning = [edge for edge in together or edges if edge.near]
    if not turning or len(turning) < len(together):
        return ""
    return min(turning, key=lambda edge: abs(edge.value - edge.limit) / edge.error).words


def uncertain(verdict: Verdict, spread: Mapping[str, float], said: str = "") -> Verdict:
    """The verdict with the standard errors of its numbers; what is known of others is left out.

    said: what `near` says of it, where it does not say so yet; kept for a pass and for findings.
    """
    known = {name: error for name, error in spread.items() if name in verdict.numbers and 0 < error < math.inf}
    told = verdict.status in (Status.PASS, Status.WARN, Status.FAIL)
    return dataclasses.replace(verdict, spread={**verdict.spread, **known}, near=(said or verdict.near) if told else "")


def share_error(share: float, number: float) -> float:
    """The standard error of a share of `number` things counted; with Laplace's rule, so that none of twenty is not certain."""
    if not number > 0 or not 0 <= share <= 1:
        return math.nan
    likely = (share * number + 1) / (number + 2)
    return math.sqrt(likely * (1 - likely) / number)


def mean_error(values: Sequence[float]) -> float:
    """The standard error of the mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def of_t(mean: float, t: float) -> float:
    """The standard error of a mean whose t is known; NaN where there is none."""
    return abs(mean / t) if t and math.isfinite(t) and math.isfinite(mean) else math.nan
