"""What the drawings share: a figure in CSS pixels, axes with margins by hand, ticks, limits, colours.

No pyplot and no layout engine. Measured with matplotlib 3.11 on two cores: a layout engine costs 80 ms a figure and a log axis
200 ms; so margins are set by hand, and logarithms are plotted on linear axes with ticks of our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nncheck.report.describe import finite
from nncheck.report.text import number, one_line, shorten
from nncheck.verdict import Guide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Middling light, so that each keeps a contrast of 3:1 on white and on near black (WCAG 1.4.11).
COLOURS = ("#2f81d6", "#c46a1c", "#2a9a62", "#a25fd0", "#c9518c", "#5f8a8b")
ALARM = "#dc4c43"
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))

MAX_POINTS = 300  # More are not seen in 400 pixels, and cost bytes.

WIDTH = 620.0  # CSS pixels
TEXT, SMALL = 8.4, 7.5  # points


def page(height: float, width: float = WIDTH) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 96, height / 96), facecolor="none")


def new_axes(figure: Figure, ink: str, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with margins in pixels."""
    width, height = figure.get_size_inches() * 96
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box, facecolor="none")
    axes.tick_params(colors=ink, labelsize=SMALL, length=3, width=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
        spine.set_alpha(0.5)
        spine.set_linewidth(0.8)
    return axes


def axis_labels(axes: Axes, ink: str, x_label: str, y_label: str) -> None:
    axes.set_xlabel(shorten(one_line(x_label), 80), color=ink, size=TEXT, labelpad=3)
    axes.set_ylabel(shorten(one_line(y_label), 36), color=ink, size=TEXT, labelpad=4)


def tick_label(value: float, *, digits: int = 3) -> str:
    """Few digits, a true minus, exponents without their zeros: `−2.5e−7`."""
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return (f"{mantissa}e{int(exponent)}" if e else mantissa).replace("-", "−")


def _power(exponent: int) -> str:
    if -3 <= exponent <= 4:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks between two decimal logarithms: whole decades, with 2 and 5 between them where there are few."""
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    if len(decades) >= 3:
        step = math.ceil(len(decades) / 6)
        return [(float(k), _power(k)) for k in decades if k % step == 0]
    ticks = [
        (k + math.log10(m), number(m * 10.0**k)) for k in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)
    ]
    inside = [(place, label) for place, label in ticks if low - 1e-9 <= place <= high + 1e-9]
    return inside if len(inside) >= 2 else [(low, number(10.0**low)), (high, number(10.0**high))]


def guide_label(guide: Guide, width: int) -> str:
    """The name of a level and its value; a name that is the value already stands alone."""
    name, value = shorten(one_line(guide.label), width), tick_label(guide.value, digits=4)
    return value if name in (value, number(guide.value)) else f"{name} {value}"


def plotted(values: Sequence[float], log: bool) -> list[float]:
    """Values as plotted: logarithms if asked; what cannot be placed becomes a gap."""
    if log:
        return [math.log10(value) if value > 0 and math.isfinite(value) else math.nan for value in values]
    return [value if math.isfinite(value) else math.nan for value in values]


def limits(values: Sequence[float], margin: float = 0.05) -> tuple[float, float] | None:
    known = finite(values)
    if not known:
        return None
    low, high = min(known), max(known)
    pad = (high - low) * margin or max(abs(high) * 0.1, 1e-12)
    return low - pad, high + pad


def thin(n: int) -> list[int]:
    """Indices of at most MAX_POINTS points, the first and the last among them."""
    if n <= MAX_POINTS:
        return list(range(n))
    return [round(i * (n - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)]


def axis_ticks(axes: Axes, which: str, low: float, high: float, log: bool) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        ticks = log_ticks(low, high)
        axis.set_ticks([place for place, _ in ticks], labels=[label for _, label in ticks])
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6 if which == "x" else 5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The same order of places, none nearer than `gap` to the next, moved least in the sense of squares.

    With the gaps taken off this is isotonic regression, solved by pooling adjacent violators.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    pools: list[tuple[float, int]] = []  # sum and size
    for k, i in enumerate(order):
        pools.append((places[i] - k * gap, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, size = pools.pop()
            pools[-1] = (pools[-1][0] + total, pools[-1][1] + size)
    levels = [total / size for total, size in pools for _ in range(size)]
    moved = list(places)
    for k, i in enumerate(order):
        moved[i] = levels[k] + k * gap
    return moved
