"""One bar a layer, in forward order, each with its figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nncheck.report.describe import finite
from nncheck.report.drawing.axes import (
    ALARM,
    COLOURS,
    SMALL,
    TEXT,
    axis_ticks,
    guide_label,
    limits,
    new_axes,
    page,
    plotted,
    tick_label,
)
from nncheck.report.text import one_line, shorten, shorten_name
from nncheck.verdict import Bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BARS = 24


def pick_bars(values: Sequence[float]) -> list[int]:
    """Which bars to show: all if they fit, else what is not finite, the two extremes and an even spread, in order."""
    n = len(values)
    if n <= MAX_BARS:
        return list(range(n))
    known = [i for i in range(n) if math.isfinite(values[i])]
    first = [i for i in range(n) if not math.isfinite(values[i])]
    if known:
        first += [min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])]
    first += [0, n - 1]
    chosen = set(first[: MAX_BARS - 2])
    spare = MAX_BARS - len(chosen)
    rest = [i for i in range(n) if i not in chosen]
    chosen.update(rest[round((k + 0.5) * len(rest) / spare - 0.5)] for k in range(spare))
    return sorted(chosen)


def draw_bars(exhibit: Bars, ink: str) -> Figure | None:
    n = min(len(exhibit.labels), len(exhibit.values))
    kept = pick_bars(exhibit.values[:n])
    values = [exhibit.values[i] for i in kept]
    log = exhibit.log and any(value > 0 for value in finite(values))
    places = plotted(values, log)
    guides = [
        (guide, place) for guide in exhibit.guides for place in plotted([guide.value], log) if math.isfinite(place)
    ]
    extent = limits([*places, *(place for _, place in guides), *([] if log else [0.0])], 0.0)
    if extent is None or not kept:
        return None
    low, high = extent
    # On a log axis a bar starts at a round decade below the smallest value, so that the smallest is still seen.
    low = math.floor(low - 0.1) if log else low
    base = low if log else 0.0
    row, top = 21.0, 8.0 + 15.0 * len(guides)
    names = [shorten_name(one_line(exhibit.labels[i]), 34) for i in kept]
    left = 24.0 + min(max(len(name) for name in names) * 6.2, 220.0)
    figure = page(top + row * len(kept) + 46)
    axes = new_axes(figure, ink, left=left, top=top, right=70, bottom=42)
    span = high - low
    axes.set_xlim(low - (0.02 * span if low < base else 0), high + 0.02 * span)
    axes.set_ylim(len(kept) - 0.5, -0.5)
    axis_ticks(axes, "x", low, high, log)
    axes.yaxis.set_ticks(range(len(kept)), labels=names)
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    axes.grid(True, axis="x", color=ink, alpha=0.13, linewidth=0.6)
    axes.set_axisbelow(True)
    widths = [0.0 if math.isnan(place) else place - base for place in places]
    axes.barh(range(len(kept)), widths, left=base, height=0.62, color=COLOURS[0], linewidth=0)
    for k, value in enumerate(values):
        # In a column of their own, where neither bars nor guides cross them.
        axes.annotate(
            tick_label(value), xy=(1.0, k), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", size=SMALL, color=ink if math.isfinite(value) else ALARM, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel(shorten(one_line(exhibit.x_label), 80), color=ink, size=TEXT, labelpad=3)
    for k, (guide, place) in enumerate(guides):
        axes.axvline(place, color=ink, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 3)))
        right = place > low + span / 2
        axes.annotate(
            guide_label(guide, 60), xy=(place, -0.5),
            xytext=(-3 if right else 3, 3 + 11.2 * k), textcoords="offset points", size=SMALL, color=ink,
            ha="right" if right else "left", va="bottom", annotation_clip=False,
        )  # fmt: skip
    return figure
