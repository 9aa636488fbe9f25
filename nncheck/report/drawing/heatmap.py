"""A matrix as squares: the stronger the colour the larger the value, blank where it is exactly zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nncheck.report.drawing.axes import ALARM, COLOURS, TEXT, WIDTH, axis_labels, new_axes, page, tick_label
from nncheck.verdict import Heatmap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CELLS = 32  # Rows and columns; larger ones are pooled by their maximum.


def _pooled(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """The matrix with at most MAX_CELLS rows and columns; a pooled cell holds the maximum, NaN beating every number."""
    rows, columns = len(values), min(len(row) for row in values)
    high, wide = math.ceil(rows / MAX_CELLS), math.ceil(columns / MAX_CELLS)
    if high == wide == 1:
        return [list(row[:columns]) for row in values]
    pooled = []
    for i in range(0, rows, high):
        blocks = (
            [value for row in values[i : i + high] for value in row[j : j + wide]] for j in range(0, columns, wide)
        )
        pooled.append([math.nan if any(map(math.isnan, block)) else max(block) for block in blocks])
    return pooled


def draw_heatmap(exhibit: Heatmap, ink: str) -> Figure | None:
    if not exhibit.values or not all(exhibit.values):
        return None
    cells = _pooled(exhibit.values)
    rows, columns = len(cells), len(cells[0])
    side = max(min(20.0, 320.0 / max(rows, columns)), 8.0)
    figure = page(side * rows + 58)
    axes = new_axes(figure, ink, left=58, top=10, right=WIDTH - 58 - side * columns, bottom=48)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axis_labels(axes, ink, exhibit.x_label, exhibit.y_label)
    for axis, total, shown in ((axes.xaxis, len(exhibit.values[0]), columns), (axes.yaxis, len(exhibit.values), rows)):
        ticks = list(range(0, shown, max(1, math.ceil(shown / 8))))
        axis.set_ticks(ticks, labels=[str(k * math.ceil(total / MAX_CELLS)) for k in ticks])
    placed = [(j, i, value) for i, row in enumerate(cells) for j, value in enumerate(row)]
    positive = [cell for cell in placed if cell[2] > 0 and math.isfinite(cell[2])]
    lost = [cell for cell in placed if not math.isfinite(cell[2])]
    shade = _shades([value for _, _, value in positive])
    area = (side * 0.9 * 0.75) ** 2  # square points; the tenth left out draws the lattice
    for chosen, colours in ((positive, [shade(value) for _, _, value in positive]), (lost, [ALARM] * len(lost))):
        xs, ys = [j for j, _, _ in chosen], [i for _, i, _ in chosen]
        axes.scatter(xs, ys, s=area, marker="s", c=colours or None, linewidths=0, clip_on=False)
    _key(axes, ink, shade, [value for _, _, value in positive], lost=bool(lost))
    return figure


def _shades(values: Sequence[float]) -> Callable[[float], tuple[float, float, float, float]]:
    """One colour, its opacity by the logarithm: so the largest stands out on a light and on a dark page."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(COLOURS[0])
    low, high = (math.log10(min(values)), math.log10(max(values))) if values else (0.0, 0.0)

    def shade(value: float) -> tuple[float, float, float, float]:
        strength = 1.0 if high == low else (math.log10(value) - low) / (high - low)
        return red, green, blue, round(0.35 + 0.65 * strength, 2)

    return shade


def _key(axes: Axes, ink: str, shade: Callable[[float], Any], values: Sequence[float], *, lost: bool) -> None:
    from matplotlib.lines import Line2D

    entries = []
    if values:
        entries.append((shade(max(values)), f"{tick_label(max(values))}, the largest"))
    if values and min(values) < max(values):
        entries.append((shade(min(values)), f"{tick_label(min(values))}, the smallest above 0"))
    if lost:
        entries.append((ALARM, "not finite"))
    entries.append(("none", "blank: exactly 0"))
    handles = [
        Line2D([], [], linestyle="none", marker="s", markersize=8, color=colour, markeredgewidth=0, label=label)
        for colour, label in entries
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.04, 1.0), frameon=False, fontsize=TEXT, labelcolor=ink,
        handletextpad=0.3, borderpad=0, borderaxespad=0,
    )  # fmt: skip
