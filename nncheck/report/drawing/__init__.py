"""Every shape of exhibit drawn by matplotlib, on a `Figure` of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nncheck.report.drawing.axes import SMALL
from nncheck.report.drawing.bars import MAX_BARS, draw_bars
from nncheck.report.drawing.curve import draw_curve
from nncheck.report.drawing.heatmap import MAX_CELLS, draw_heatmap
from nncheck.report.drawing.histogram import MAX_PANELS, draw_histogram
from nncheck.report.drawing.samples import MAX_SAMPLES, draw_samples
from nncheck.report.text import one_line, shorten
from nncheck.verdict import Bars, Curve, Exhibit, Heatmap, Histogram, Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def omitted(exhibit: Exhibit) -> str:
    """What the picture leaves out, in words; empty if it shows all."""
    match exhibit:
        case Histogram() if len(exhibit.panels) > MAX_PANELS:
            return f"The first {MAX_PANELS} of {len(exhibit.panels)}; {len(exhibit.panels) - MAX_PANELS} more in the result file."
        case Bars() if len(exhibit.values) > MAX_BARS:
            n = len(exhibit.values)
            return f"{MAX_BARS} of {n}, in order, with the extremes; {n - MAX_BARS} more in the result file."
        case Heatmap() if max(len(exhibit.values), len(exhibit.values[0]) if exhibit.values else 0) > MAX_CELLS:
            return f"Pooled to {MAX_CELLS} rows or columns; each cell shows the largest value in it."
        case Samples() if len(exhibit.samples) > MAX_SAMPLES:
            return f"The first {MAX_SAMPLES} of {len(exhibit.samples)}."
    return ""


def draw(exhibit: Exhibit, ink: str, *, title: bool = False) -> Figure | None:
    """The picture, or None if there is nothing to draw. The title is drawn only in files: a page has its own captions."""
    match exhibit:
        case Curve():
            figure = draw_curve(exhibit, ink)
        case Histogram():
            figure = draw_histogram(exhibit, ink)
        case Bars():
            figure = draw_bars(exhibit, ink)
        case Heatmap():
            figure = draw_heatmap(exhibit, ink)
        case Samples():
            figure = draw_samples(exhibit, ink)
        case _:
            return None
    if figure is not None and title:
        _add_title(figure, exhibit, ink)
    return figure


def _add_title(figure: Figure, exhibit: Exhibit, ink: str) -> None:
    """Room at the top for the title, taken in pixels, so that nothing below changes its size."""
    width, height = figure.get_size_inches() * 96
    extra = 44.0 if omitted(exhibit) else 28.0
    for axes in figure.axes:
        left, bottom, w, h = axes.get_position().bounds
        axes.set_position((left, bottom * height / (height + extra), w, h * height / (height + extra)))
    figure.set_size_inches(width / 96, (height + extra) / 96)
    top = height + extra
    figure.text(12 / width, (top - 18) / top, shorten(one_line(exhibit.title), 90), color=ink, size=10.5, weight="bold")
    if note := omitted(exhibit):
        figure.text(12 / width, (top - 33) / top, note, color=ink, size=SMALL, alpha=0.75)
