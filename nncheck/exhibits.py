"""What a verdict shows beside its words: tables, curves, histograms, bars, heatmaps and samples, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under column heads; every cell is already text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: Literal["table"] = "table"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a `Curve`: equally long x and y."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A labelled horizontal (in `Curve`) or vertical (in `Bars`) reference value: a floor, chance, a threshold."""

    label: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Lines over a common axis, e.g. loss over steps, with the known levels drawn as guides."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    guides: tuple[Guide, ...] = ()
    log_x: bool = False
    log_y: bool = False
    kind: Literal["curve"] = "curve"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One histogram: `edges` has one entry more than `counts`."""

    label: str
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Small multiples of histograms, one panel a layer; renderers may show only the first twelve."""

    title: str
    x_label: str
    panels: tuple[Panel, ...]
    kind: Literal["histogram"] = "histogram"


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One labelled bar a layer, in forward order."""

    title: str
    x_label: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    guides: tuple[Guide, ...] = ()
    log: bool = False
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A matrix of non-negative values, row by row."""

    title: str
    x_label: str
    y_label: str
    values: tuple[tuple[float, ...], ...]
    kind: Literal["heatmap"] = "heatmap"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample as the network sees it, with its caption.

    `pixels`: rows of grey levels 0..255, or of (r, g, b) triples; or None and `text` instead.
    """

    caption: str
    pixels: tuple[tuple[Any, ...], ...] | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What the network really sees: a grid of images, or lines of text or numbers."""

    title: str
    samples: tuple[Sample, ...]
    kind: Literal["samples"] = "samples"


Exhibit = Table | Curve | Histogram | Bars | Heatmap | Samples
