"""Figures and pictures of a loss at the start: the levels it is compared with, and how values grow on their way to it."""

from __future__ import annotations

from nncheck.losses.starting import StartingLoss
from nncheck.probes.initial_loss import InitialLoss
from nncheck.verdict import Bars, Guide, Table


def pictures(start: InitialLoss, level: StartingLoss) -> tuple[Bars | Table, ...]:
    """Bars of the layers, where there are any, and a table of the levels."""
    rows = [
        ("measured", f"{level.loss:.4g} ± {level.error:.2g}"),
        ("outputs say nothing", f"{level.expected:.4g}"),
    ]
    if level.constant is not None:
        rows.append(("best constant", f"{level.constant:.4g}"))
    if level.lowest is not None:
        rows.append(("floor", f"{level.lowest:.4g}"))
    table = Table(title="Loss per prediction", columns=("", level.kind), rows=tuple(rows))
    layers = [layer for layer in start.layers if layer.gain is not None and layer.came_out > 0][:40]
    if not layers:
        return (table,)
    bars = Bars(
        title="Size of what each layer gives (root mean square)",
        x_label="root mean square",
        labels=tuple(layer.name or layer.type for layer in layers),
        values=tuple(layer.came_out for layer in layers),
        guides=(Guide(label="1", value=1.0),),
        log=max(layer.came_out for layer in layers) > 30,
    )
    return (bars, table)


def figures(start: InitialLoss, level: StartingLoss) -> dict[str, float]:
    """The numbers of a verdict."""
    found = {
        "loss": level.loss,
        "error": level.error,
        "expected": level.expected,
        "spread": level.spread,
        "final": start.final[0],
    }
    if level.constant is not None:
        found["constant"] = level.constant
    return found
