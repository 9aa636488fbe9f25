"""Columns of a table, or of the last step of a series, that are the target: exactly, or but for its unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nncheck.lab.sandbox import Sandbox
from nncheck.probes.training_data import TrainingData
from nncheck.registry import probe

# Fewer samples, or columns that vary, say nothing: `y = 2 x` is a demonstration, and so is a table of the inputs of a gate.
LEAST_SAMPLES, LEAST_COLUMNS = 30, 3
# Whole-number targets of more values than this are measurements.
MOST_CLASSES = 64


@dataclass(frozen=True, kw_only=True)
class TargetCopies:
    """What the columns say of the target.

    samples, columns: how many were looked at (0 where there is no such table). left: for each column the share of the target's
    variance (numbers), or of the column's own variance (classes), that the other one does not explain; 1 for constant columns.
    kind: "classes" or "numbers". measured: columns with more different values than classes (or ten). series: whether these are
    the last steps of windows.
    """

    samples: int = 0
    columns: int = 0
    kind: str = ""
    left: tuple[float, ...] = ()
    measured: int = 0
    series: bool = False


@probe
def target_copies(sandbox: Sandbox, data: TrainingData) -> TargetCopies:
    """Explain the target by each column alone."""
    marks = data.survey.samples
    if not marks.columns or len(marks.label) != marks.count:
        return TargetCopies()
    table = torch.frombuffer(marks.table, dtype=torch.float32).view(-1, marks.columns).double()
    label = torch.frombuffer(marks.label, dtype=torch.float64)[: table.size(0)]
    series = any(len(one.shape) == 2 for one in data.survey.inputs)
    if table.size(0) < LEAST_SAMPLES or not bool(torch.isfinite(table).all() and torch.isfinite(label).all()):
        return TargetCopies()
    spread = table.std(0)
    varies = spread > 1e-6 * table.abs().amax(0).clamp_min(1e-30)
    if int(varies.sum()) < (1 if series else LEAST_COLUMNS) or float(label.std()) == 0:
        return TargetCopies()
    values, codes = torch.unique(label, return_inverse=True)
    classes = values.numel()
    is_class = marks.whole and classes <= MOST_CLASSES
    if is_class:
        counts = torch.bincount(codes, minlength=classes).double()
        sums = torch.zeros(classes, table.size(1), dtype=torch.float64).index_add_(0, codes, table)
        rest = (table - (sums / counts[:, None])[codes]).square().sum(0)
        left = rest / (table - table.mean(0)).square().sum(0).clamp_min(1e-300)
    else:
        centred, y = table - table.mean(0), label - label.mean()
        slope = (centred * y[:, None]).sum(0) / centred.square().sum(0).clamp_min(1e-300)
        left = (y[:, None] - centred * slope).square().sum(0) / y.square().sum()
    left = torch.where(varies, left, torch.ones_like(left))
    many = max(10, classes if is_class else 0)
    measured = sum(int(torch.unique(table[:, i]).numel() > many) for i in range(table.size(1)))
    return TargetCopies(
        samples=table.size(0),
        columns=table.size(1),
        kind="classes" if is_class else "numbers",
        left=tuple(left.tolist()),
        measured=measured,
        series=series,
    )
