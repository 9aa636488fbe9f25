"""What the checks of a network's insides share: which layers count, and how they are shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

from nncheck.probes.activations import Activation, Activations, Scale
from nncheck.verdict import Histogram, Panel, Place, Table

T = TypeVar("T")

# Histograms are shown for the worst layers, rows and bars for so many layers at most.
WORST, MOST_ROWS = 6, 24

# An input whose features vary by less than this is read as divided twice (0..1 images over 255 again: 0.0011). Default biases
# of +-1/sqrt(inputs) then decide what a layer answers.
SMALL_INPUT = 0.005


def dependence(scale: Scale) -> float:
    """How much of a layer's output depends on the sample: spread / (level + spread), 0 (nothing) to 1."""
    whole = scale.spread + scale.level
    return scale.spread / whole if whole > 0 and math.isfinite(whole) else (0.0 if whole == 0 else math.nan)


def input_spread(seen: Activations) -> float:
    """How much the network's input varies over samples; NaN for integers or where it was not seen."""
    return seen.scales[0].given_spread if seen.scales else math.nan


def hidden_rectifiers(seen: Activations) -> tuple[Activation, ...]:
    """The layers whose units can die: hidden, and with units to count."""
    return tuple(a for a in seen.activations if a.family == "rectifier" and a.role == "hidden" and a.units)


def histogram(title: str, x_label: str, layers: Sequence[Activation], notes: Sequence[str]) -> Histogram:
    """One panel a layer, in the order given."""
    panels = [
        Panel(label=a.name, edges=a.edges, counts=a.counts, note=note) for a, note in zip(layers, notes, strict=True)
    ]
    return Histogram(title=title, x_label=x_label, panels=tuple(p for p in panels[:WORST] if p.counts))


def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """All rows if they are few, else evenly spread ones."""
    return Table(title=title, columns=columns, rows=tuple(spread_out(rows)))


def spread_out(items: Sequence[T]) -> list[T]:
    """At most `MOST_ROWS` items, the first and the last among them."""
    if len(items) <= MOST_ROWS:
        return list(items)
    return [items[round(i * (len(items) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]


def located(place: Place, name: str, detail: str) -> Place:
    """A place under the layer's name, with what was found there."""
    return dataclasses.replace(place, name=name, detail=detail)


def percent(share: float) -> str:
    """`37 %`."""
    return f"{100 * share:.0f} %"
