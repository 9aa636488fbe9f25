"""Lines over a common axis, with known levels named in the margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nncheck.report.describe import finite
from nncheck.report.drawing.axes import (
    COLOURS,
    DASHES,
    SMALL,
    TEXT,
    axis_labels,
    axis_ticks,
    guide_label,
    limits,
    new_axes,
    page,
    plotted,
    spread,
    thin,
)
from nncheck.report.text import one_line, shorten
from nncheck.verdict import Curve, Guide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_GAP = 13.0  # pixels between two labels of guides


def draw_curve(exhibit: Curve, ink: str) -> Figure | None:
    log_y = exhibit.log_y and any(value > 0 for line in exhibit.lines for value in finite(line.y))
    log_x = exhibit.log_x and any(value > 0 for line in exhibit.lines for value in finite(line.x))
    curves = []
    for line in exhibit.lines[: len(COLOURS)]:
        kept = thin(min(len(line.x), len(line.y)))
        curves.append((plotted([line.x[i] for i in kept], log_x), plotted([line.y[i] for i in kept], log_y)))
    guides = [
        (guide, place) for guide in exhibit.guides for place in plotted([guide.value], log_y) if math.isfinite(place)
    ]
    x_range = limits([x for xs, _ in curves for x in xs], 0.02)
    y_range = limits([y for _, ys in curves for y in ys] + [place for _, place in guides])
    if x_range is None or y_range is None:
        return None
    legend = len(curves) > 1 or (curves and one_line(exhibit.lines[0].label) != one_line(exhibit.y_label))
    names = [shorten(one_line(line.label), 84) for line in exhibit.lines[: len(curves)]]
    columns = 2 if max(map(len, names), default=0) <= 42 else 1
    top = 10.0 + (18.0 * math.ceil(len(curves) / columns) if legend else 0.0)
    height = 220.0 + top
    longest = max((len(guide_label(guide, 26)) for guide, _ in guides), default=0)
    figure = page(height)
    axes = new_axes(figure, ink, left=64, top=top, right=24 + 5.8 * longest if guides else 18, bottom=42)
    axes.set_xlim(*x_range)
    axes.set_ylim(*y_range)
    axis_ticks(axes, "x", *x_range, log_x)
    axis_ticks(axes, "y", *y_range, log_y)
    axes.grid(True, axis="y", color=ink, alpha=0.13, linewidth=0.6)
    axes.set_axisbelow(True)
    for k, (xs, ys) in enumerate(curves):
        marker = "o" if len(xs) <= 12 else None
        # A leading underscore would hide the line from the legend.
        axes.plot(
            xs, ys, color=COLOURS[k], linestyle=DASHES[k % len(DASHES)], linewidth=1.7, marker=marker, markersize=3.2,
            label=f"\u2009{names[k]}",
        )  # fmt: skip
    axis_labels(axes, ink, exhibit.x_label, exhibit.y_label)
    _guide_lines(axes, ink, guides, y_range, height - top - 42)
    if legend:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=TEXT, labelcolor=ink,
            handlelength=2.4, borderpad=0.2, borderaxespad=0.1, columnspacing=1.6, labelspacing=0.3,
        )  # fmt: skip
    return figure


def _guide_lines(
    axes: Axes, ink: str, guides: list[tuple[Guide, float]], y_range: tuple[float, float], pixels: float
) -> None:
    """Horizontal levels, named and numbered in the right margin, where the names cannot meet the curves."""
    low, high = y_range
    heights = [(place - low) / (high - low) for _, place in guides]
    for (guide, place), height, label_height in zip(guides, heights, spread(heights, _LABEL_GAP / pixels), strict=True):
        axes.axhline(place, color=ink, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            guide_label(guide, 26),
            xy=(1.0, height), xytext=(1.05, label_height), xycoords="axes fraction", textcoords="axes fraction",
            color=ink, size=SMALL, va="center", ha="left", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": ink, "alpha": 0.5, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip
