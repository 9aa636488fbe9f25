"""An exhibit in one sentence with its numbers: what a reader without the picture gets. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nncheck.report.exhibits import byte_rows
from nncheck.report.text import count, number, one_line, shorten
from nncheck.verdict import Bars, Curve, Exhibit, Guide, Heatmap, Histogram, Line, Sample, Samples, Table

MAX_NAMED = 4  # Lines, layers or guides told one by one; a sentence with more is not listened to.


def describe(exhibit: Exhibit) -> str:
    """`Loss on one batch: your Adam from 2.3 to 0.004 over 61 points; floor at 0.01.`"""
    match exhibit:
        case Curve():
            parts = [_line(line) for line in exhibit.lines[:MAX_NAMED]] + _guides(exhibit.guides)
        case Bars():
            parts = [_extremes(exhibit.labels, exhibit.values), *_guides(exhibit.guides)]
        case Histogram():
            notes = [f"{panel.label} {panel.note}".strip() for panel in exhibit.panels if panel.note]
            parts = [count(len(exhibit.panels), "histogram"), *notes[:MAX_NAMED]]
        case Heatmap():
            parts = [_matrix(exhibit)]
        case Samples():
            parts = [count(len(exhibit.samples), "sample")]
        case Table():
            parts = [count(len(exhibit.rows), "row")]
    return one_line(f"{exhibit.title}: {'; '.join(part for part in parts if part)}.")


def describe_sample(sample: Sample) -> str:
    """The caption and the figures of one picture."""
    if sample.pixels is None:
        return one_line(sample.caption)
    width, channels, data = byte_rows(sample.pixels)
    kind = "colour" if channels == 3 else "grey"
    figures = f", bytes {min(data)} to {max(data)}, mean {sum(data) / len(data):.0f}" if data else ""
    return one_line(f"{sample.caption}: {width} by {len(sample.pixels)} {kind} picture{figures}")


def finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _line(line: Line) -> str:
    if not line.y:
        return f"{line.label} is empty"
    lost = len(line.y) - len(finite(line.y))
    text = f"{line.label} from {number(line.y[0])} to {number(line.y[-1])} over {count(len(line.y), 'point')}"
    return f"{text}, {lost} of them not finite" if lost else text


def _guides(guides: tuple[Guide, ...]) -> list[str]:
    return [f"{guide.label} at {number(guide.value)}" for guide in guides[:MAX_NAMED]]


def _extremes(labels: tuple[str, ...], values: tuple[float, ...]) -> str:
    pairs = [(value, label) for label, value in zip(labels, values, strict=False) if math.isfinite(value)]
    lost = len(values) - len(pairs)
    text = count(len(values), "bar")
    if pairs:
        (low, low_label), (high, high_label) = min(pairs), max(pairs)
        text += f", from {number(low)} ({shorten(low_label, 60)}) to {number(high)} ({shorten(high_label, 60)})"
    return f"{text}, {lost} not finite" if lost else text


def _matrix(exhibit: Heatmap) -> str:
    values = [value for row in exhibit.values for value in row]
    columns = len(exhibit.values[0]) if exhibit.values else 0
    filled = sum(value != 0 for value in values)
    off_diagonal = sum(value != 0 for i, row in enumerate(exhibit.values) for j, value in enumerate(row) if i != j)
    text = f"{len(exhibit.values)} by {columns}, {filled} cells are not zero, {off_diagonal} of them off the diagonal"
    top = max(finite(values), default=math.nan)
    return f"{text}, the largest is {number(top)}"
