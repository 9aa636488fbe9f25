"""Small multiples of histograms. They share one axes, whose units are pixels: an axes of its own costs 20 ms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nncheck.report.drawing.axes import COLOURS, SMALL, TEXT, WIDTH, page, plotted, tick_label
from nncheck.report.text import one_line, shorten, shorten_name
from nncheck.verdict import Histogram, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12


def draw_histogram(exhibit: Histogram, ink: str) -> Figure | None:
    panels = [panel for panel in exhibit.panels if len(panel.edges) == len(panel.counts) + 1 and panel.counts]
    panels = panels[:MAX_PANELS]
    if not panels:
        return None
    columns = min(len(panels), 4 if len(panels) > 4 else 3)
    rows = math.ceil(len(panels) / columns)
    cell_width, cell_height = WIDTH / max(columns, 2), 132.0
    height = rows * cell_height + 22
    figure = page(height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor="none")
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    for k, panel in enumerate(panels):
        _panel(axes, ink, panel, (k % columns) * cell_width + 12, (k // columns) * cell_height, cell_width - 22)
    axes.text(
        WIDTH / 2, height - 8, shorten(one_line(exhibit.x_label), 80), color=ink, size=TEXT, ha="center", va="center"
    )
    return figure


def _panel(axes: Axes, ink: str, panel: Panel, left: float, top: float, width: float) -> None:
    """One histogram of the small multiples, drawn in pixels on the common axes."""
    letters = int(width / 5.4)
    axes.text(left, top + 14, shorten_name(one_line(panel.label), letters), color=ink, size=TEXT, va="center")
    axes.text(
        left, top + 29, shorten(one_line(panel.note), letters + 3), color=ink, size=SMALL, va="center", alpha=0.75
    )
    base, room = top + 108.0, 66.0
    edges, counts = plotted(panel.edges, False), [value if math.isfinite(value) else 0.0 for value in panel.counts]
    low, high = edges[0], edges[-1]
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        axes.text(left, base - 30, "no finite values", color=ink, size=SMALL, va="center")
        return
    scale = room / (max(counts) or 1.0)
    places = [left + width * (edge - low) / (high - low) for edge in edges]
    heights = [base - value * scale for value in counts]
    axes.stairs(heights, places, baseline=base, fill=True, color=COLOURS[0], alpha=0.35, linewidth=0)
    axes.stairs(heights, places, baseline=None, color=COLOURS[0], linewidth=1.1)
    axes.plot((left, left + width), (base, base), color=ink, alpha=0.5, linewidth=0.8)
    marks = [(low, "left"), (high, "right")]
    if low < 0 < high and min(-low, high) > 0.25 * (high - low):
        marks.append((0.0, "center"))
    for value, side in marks:
        place = left + width * (value - low) / (high - low)
        axes.text(place, base + 9, tick_label(value), color=ink, size=SMALL, ha=side, va="center", alpha=0.85)
