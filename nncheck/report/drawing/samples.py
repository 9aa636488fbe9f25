"""What the network sees, as a grid of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nncheck.report.drawing.axes import SMALL, page
from nncheck.report.text import one_line, shorten
from nncheck.verdict import Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SAMPLES = 16
MAX_SIDE = 64  # Pixels of a picture's longer side.


def small_pixels(pixels: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """A picture with no side over MAX_SIDE, by leaving out rows and columns."""
    step = math.ceil(max(len(pixels), len(pixels[0]) if pixels else 0) / MAX_SIDE) or 1
    return [list(row[::step]) for row in pixels[::step]]


def draw_samples(exhibit: Samples, ink: str) -> Figure | None:
    """The pictures as one grid, for files; on a page each is an image of its own with its caption in the text."""
    pictures = [sample for sample in exhibit.samples[:MAX_SAMPLES] if sample.pixels and sample.pixels[0]]
    if not pictures:
        return None
    columns = min(4, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = page(rows * 150.0)
    for k, sample in enumerate(pictures):
        box = ((k % columns + 0.06) / 4, 1 - (k // columns + 0.82) / rows, 0.88 / 4, 0.76 / rows)
        axes = figure.add_axes(box)
        axes.set_axis_off()
        axes.imshow(small_pixels(sample.pixels or ()), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(shorten(one_line(sample.caption), 30), color=ink, size=SMALL, y=-0.16)
    return figure
