"""Regression targets of another size than a network's answers: part of data-scale."""

from __future__ import annotations

import math

from nncheck.probes.loss_targets import LossTarget
from nncheck.survey.labels import TargetStatistics
from nncheck.verdict import Histogram, Panel, Remedy, Verdict, warned

REGRESSION = ("mse", "l1", "smooth-l1", "huber")
# A network's first answers spread by about one. Adam moves a weight by its rate (1e-3) a step, so that answers spread by a hundred
# take some 100,000 updates; SGD with the squared error diverges. 0..1, percentages and ages stay below.
LARGE = 100.0
# Targets that vary by less than a thousandth vanish in the noise of the first answers for thousands of updates.
SMALL = 1e-3
# With a mean of so many deviations, nearly all of the first loss is the mean, and the bias alone has to cover the way to it.
# A mean below FAR_AWAY is covered by a bias in a few thousand updates of Adam at 1e-3.
OFFSET, FAR_AWAY = 10.0, 10.0
# The network answers in the targets' units already (it scales its output) if the spread of its answers is within this factor.
OWN_SCALE = 30.0


def targets(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """A finding if a regression's targets are far too large, too small, or too far from zero."""
    if call.kind not in REGRESSION or not call.roots or not call.connected:
        return None
    low, high, mean, std = (
        (seen.low, seen.high, seen.mean, seen.std) if seen is not None else (call.low, call.high, call.mean, call.std)
    )
    if not std > 0 or not math.isfinite(std):
        return None
    away = abs(mean - call.output_mean)
    large = std > LARGE and call.output_std < std / OWN_SCALE
    far = away > OFFSET * std and away > FAR_AWAY
    small = std < SMALL and max(abs(low), abs(high)) < 10 * SMALL and call.output_std > OWN_SCALE * std
    if not (large or far or small):
        return None
    what = f"vary by {std:.3g}" if not far or large else f"lie {away / std:.3g} deviations from what it answers"
    exhibits: tuple[Histogram, ...] = ()
    if seen is not None and len(seen.quantiles) > 2 and seen.quantiles[-1] > seen.quantiles[0]:
        exhibits = (_histogram(seen),)
    return warned(
        f"targets of {call.kind} run from {low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {std:.3g}; the first "
        f"answers are {call.output_mean:.3g} +- {call.output_std:.2g}",
        expected="targets of about the size of one around zero, or answers scaled to theirs",
        summary=f"the targets of the regression are not scaled: they {what}, and the network answers "
        f"{call.output_mean:.2g} +- {call.output_std:.2g}",
        numbers={"mean": mean, "std": std, "output_mean": call.output_mean, "output_std": call.output_std},
        places=(call.place,) if call.place.file else (),
        causes=("the targets are in the unit they were recorded in (euros, metres, kelvins)",),
        remedies=(
            Remedy(
                text="standardise the targets with the training set, and scale the predictions back",
                code="y = (y - y_train.mean()) / y_train.std()",
            ),
        ),
        exhibits=exhibits,
    )


def _histogram(seen: TargetStatistics) -> Histogram:
    """The distribution of the targets, from their percentiles."""
    low, high = seen.quantiles[0], seen.quantiles[-1]
    bins = 20
    edges = tuple(low + (high - low) * i / bins for i in range(bins + 1))
    counts = [0.0] * bins
    for value in seen.quantiles:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1.0
    return Histogram(
        title="Targets of the training set",
        x_label="target",
        panels=(Panel(label=seen.name or "target", edges=edges, counts=tuple(counts), note="percent of the targets"),),
    )
