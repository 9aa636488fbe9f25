"""Exhibits as plain data and back, told apart by `kind`. Arrays keep four significant digits, more than any picture shows."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

from nncheck.verdict import Bars, Curve, Exhibit, Guide, Heatmap, Histogram, Line, Panel, Sample, Samples, Table


def plain_number(value: float) -> float | int | str:
    """JSON has no NaN and no infinity: these become the strings that `float` reads back."""
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _rounded(value: float) -> float | int | str:
    return plain_number(float(f"{value:.4g}"))


def _array(values: tuple[float, ...]) -> list[float | int | str]:
    return [_rounded(value) for value in values]


def _guides(guides: tuple[Guide, ...]) -> list[dict[str, Any]]:
    return [{"label": guide.label, "value": plain_number(guide.value)} for guide in guides]


def byte_rows(pixels: tuple[tuple[Any, ...], ...]) -> tuple[int, int, bytes]:
    """Width, channels (1 or 3) and the bytes of a picture, row by row; what is out of 0..255 is clipped."""
    channels = 3 if pixels and pixels[0] and isinstance(pixels[0][0], (tuple, list)) else 1
    flat = [value for row in pixels for cell in row for value in (cell if channels == 3 else (cell,))]
    return (len(pixels[0]) if pixels else 0), channels, bytes(_byte(value) for value in flat)


def _byte(value: float) -> int:
    return 0 if math.isnan(value) else int(min(max(value, 0.0), 255.0) + 0.5)


def _sample(sample: Sample) -> dict[str, Any]:
    entry: dict[str, Any] = {"caption": sample.caption}
    if sample.pixels is not None:
        width, channels, data = byte_rows(sample.pixels)
        # Base64 of the bytes: a third of what nested lists of numbers would take.
        entry |= {"width": width, "height": len(sample.pixels), "channels": channels}
        entry["pixels"] = base64.b64encode(data).decode("ascii")
    if sample.text:
        entry["text"] = sample.text
    return entry


def exhibit_to_dict(exhibit: Exhibit) -> dict[str, Any]:
    head: dict[str, Any] = {"kind": exhibit.kind, "title": exhibit.title}
    match exhibit:
        case Table():
            return head | {"columns": list(exhibit.columns), "rows": [list(row) for row in exhibit.rows]}
        case Curve():
            lines = [{"label": line.label, "x": _array(line.x), "y": _array(line.y)} for line in exhibit.lines]
            axes = {"x_label": exhibit.x_label, "y_label": exhibit.y_label, "lines": lines}
            return head | axes | {"guides": _guides(exhibit.guides), "log_x": exhibit.log_x, "log_y": exhibit.log_y}
        case Histogram():
            panels = [
                {"label": panel.label, "edges": _array(panel.edges), "counts": _array(panel.counts), "note": panel.note}
                for panel in exhibit.panels
            ]
            return head | {"x_label": exhibit.x_label, "panels": panels}
        case Bars():
            body = {"x_label": exhibit.x_label, "labels": list(exhibit.labels), "values": _array(exhibit.values)}
            return head | body | {"guides": _guides(exhibit.guides), "log": exhibit.log}
        case Heatmap():
            rows = [_array(row) for row in exhibit.values]
            return head | {"x_label": exhibit.x_label, "y_label": exhibit.y_label, "values": rows}
        case Samples():
            return head | {"samples": [_sample(sample) for sample in exhibit.samples]}


def _text(data: Mapping[str, Any], key: str) -> str:
    return str(data.get(key, ""))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _read_guides(data: Mapping[str, Any]) -> tuple[Guide, ...]:
    return tuple(Guide(label=_text(entry, "label"), value=float(entry["value"])) for entry in data.get("guides", ()))


def _read_sample(data: Mapping[str, Any]) -> Sample:
    pixels: tuple[tuple[Any, ...], ...] | None = None
    if data.get("pixels") is not None:
        flat = base64.b64decode(data["pixels"], validate=True)
        width, height, channels = int(data["width"]), int(data["height"]), int(data["channels"])
        if channels not in (1, 3) or min(width, height) < 0 or len(flat) != width * height * channels:
            raise ValueError(f"{len(flat)} bytes are no picture of {width} x {height} x {channels}")
        cells = list(flat) if channels == 1 else [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]
        pixels = tuple(tuple(cells[row * width : (row + 1) * width]) for row in range(height))
    return Sample(caption=_text(data, "caption"), pixels=pixels, text=_text(data, "text"))


def exhibit_from_dict(data: Mapping[str, Any]) -> Exhibit | None:
    """The exhibit, or None for a kind that this version does not know."""
    title = _text(data, "title")
    match data.get("kind"):
        case "table":
            rows = tuple(tuple(str(cell) for cell in row) for row in data["rows"])
            return Table(title=title, columns=tuple(str(name) for name in data["columns"]), rows=rows)
        case "curve":
            return Curve(
                title=title,
                x_label=_text(data, "x_label"),
                y_label=_text(data, "y_label"),
                lines=tuple(
                    Line(label=_text(line, "label"), x=_floats(line["x"]), y=_floats(line["y"]))
                    for line in data["lines"]
                ),
                guides=_read_guides(data),
                log_x=bool(data.get("log_x")),
                log_y=bool(data.get("log_y")),
            )
        case "histogram":
            panels = tuple(
                Panel(
                    label=_text(panel, "label"),
                    edges=_floats(panel["edges"]),
                    counts=_floats(panel["counts"]),
                    note=_text(panel, "note"),
                )
                for panel in data["panels"]
            )
            return Histogram(title=title, x_label=_text(data, "x_label"), panels=panels)
        case "bars":
            return Bars(
                title=title,
                x_label=_text(data, "x_label"),
                labels=tuple(str(label) for label in data["labels"]),
                values=_floats(data["values"]),
                guides=_read_guides(data),
                log=bool(data.get("log")),
            )
        case "heatmap":
            values = tuple(_floats(row) for row in data["values"])
            return Heatmap(title=title, x_label=_text(data, "x_label"), y_label=_text(data, "y_label"), values=values)
        case "samples":
            return Samples(title=title, samples=tuple(_read_sample(sample) for sample in data["samples"]))
    return None
