"""What a straight line through the inputs can tell: a few thousand samples drawn from the pass, fitted in closed form.

Inputs are flattened; beyond `WIDTH` numbers their signs are drawn and they are added up in `WIDTH` buckets (a count sketch),
which keeps inner products up to noise. Four fifths are fitted, one fifth is predicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.survey.walk import SeenBatch

# Numbers of a sketch, samples kept (2 MB of float32), and values of a sample beyond which nothing is sketched.
WIDTH, KEPT, LARGEST = 256, 2048, 1 << 20
# Fewer samples than this, or fewer than five a class, are fitted by chance.
FEWEST, PER_CLASS = 64, 5
MOST_CLASSES, MOST_OUTPUTS = 200, 64
HELD = 5


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """A linear classifier (Gaussian classes with one covariance) or ridge regression, on samples it was not fitted to.

    kind: "classes" or "numbers". held: how many samples those are. outputs: classes, or numbers of a target. width: numbers of an
    input as fitted. right, majority: shares of labels got right by the fit and by the commonest class. loss, constant: mean loss
    of the fit and of the best constant (cross-entropy in nats; squared error, mean over outputs); error: of their difference.
    """

    kind: str
    held: int
    outputs: int
    width: int
    right: float | None
    majority: float | None
    loss: float
    constant: float
    error: float


class Sketch:
    """An accumulator of `LinearFit`: keeps `KEPT` samples drawn at random from the pass, each with the smallest of random keys."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._rows: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._keys: list[Tensor] = []
        self._held = 0
        self._limit = 1.0
        self._shape: tuple[object, ...] | None = None
        self._usable = True

    def add(self, index: int, seen: SeenBatch) -> None:
        if not self._usable or not seen.inputs:
            return
        target = seen.targets[0].rows if len(seen.targets) == 1 else None
        floats = [part.rows for part in seen.inputs if part.rows.is_floating_point()]
        shape = (
            tuple(tuple(rows.shape[1:]) for rows in floats),
            None if target is None else (tuple(target.shape[1:]), target.dtype),
        )
        self._shape = self._shape or shape
        wide = sum(math.prod(rows.shape[1:]) for rows in floats)
        # Inputs of other lengths, tokens, graphs: nothing a straight line is drawn through.
        self._usable = (
            self._shape == shape and target is not None and len(floats) == len(seen.inputs) and 0 < wide <= LARGEST
            and 0 < math.prod(target.shape[1:]) <= MOST_OUTPUTS and not target.is_complex()
            and all(rows.size(0) == target.size(0) for rows in floats)
        )  # fmt: skip
        if not self._usable or target is None:
            return
        keys = torch.rand(target.size(0), generator=self._generator)
        chosen = keys < self._limit
        if not bool(chosen.any()):
            return
        self._rows.append(
            _sketch(torch.cat([rows[chosen].float().reshape(int(chosen.sum()), -1) for rows in floats], 1))
        )
        self._targets.append(target[chosen].clone())
        self._keys.append(keys[chosen])
        self._held += int(chosen.sum())
        if self._held > 2 * KEPT:
            self._drop()

    def _drop(self) -> None:
        rows, targets, keys = torch.cat(self._rows), torch.cat(self._targets), torch.cat(self._keys)
        best = keys.topk(min(KEPT, keys.numel()), largest=False)
        self._limit = float(best.values.max()) if keys.numel() > KEPT else 1.0
        self._rows, self._targets, self._keys = [rows[best.indices]], [targets[best.indices]], [best.values]
        self._held = best.values.numel()

    def result(self) -> LinearFit | None:
        """None where inputs and targets are no numbers, or too few."""
        if not self._usable or self._held < FEWEST:
            return None
        self._drop()
        rows, target = self._rows[0].double(), self._targets[0]
        good = torch.isfinite(rows).all(1) & torch.isfinite(target.double()).reshape(len(target), -1).all(1)
        rows, target = rows[good], target[good]
        if rows.size(0) < FEWEST:
            return None
        held = torch.arange(rows.size(0)) % HELD == 0
        center, spread = rows[~held].mean(0), rows[~held].std(0)
        varies = spread > 1e-8 * center.abs().clamp_min(1e-12)
        if not bool(varies.any()):
            return None
        rows = ((rows - center) / spread.clamp_min(1e-300))[:, varies]
        integer = not target.is_floating_point()
        column = target.flatten(1) if target.ndim > 1 else target[:, None]
        try:
            if (integer and column.size(1) == 1) or (column.size(1) == 1 and _yes_no(column)):
                return _classes(rows, column[:, 0].long(), held)
            return None if integer else _numbers(rows, column.double(), held)
        except RuntimeError:  # a LinAlgError: a matrix that cannot be inverted
            return None


def _sketch(rows: Tensor) -> Tensor:
    wide = rows.size(1)
    if wide <= WIDTH:
        return rows
    # Every `WIDTH`th number goes into the same bucket: neighbours never meet, and nothing is gathered.
    padded = torch.nn.functional.pad(rows, (0, -wide % WIDTH))
    drawn = torch.Generator().manual_seed(wide)
    signs = torch.randint(0, 2, (padded.size(1),), generator=drawn) * 2.0 - 1.0
    return (padded * signs).view(rows.size(0), -1, WIDTH).sum(1)


def _yes_no(column: Tensor) -> bool:
    return bool(((column == 0) | (column == 1)).all())


def _shrunk(covariance: Tensor, samples: int) -> Tensor:
    """A covariance moved towards a sphere by as much as its numbers are unsure: width over samples."""
    width = covariance.size(0)
    part = min(1.0, max(1e-3, width / (width + samples)))
    return (1 - part) * covariance + part * covariance.diagonal().mean() * torch.eye(width, dtype=covariance.dtype)


def _classes(rows: Tensor, labels: Tensor, held: Tensor) -> LinearFit | None:
    values, labels = torch.unique(labels, return_inverse=True)
    number = values.numel()
    counts = torch.bincount(labels[~held], minlength=number).double()
    if not 2 <= number <= MOST_CLASSES or rows.size(0) < PER_CLASS * number or float(counts.min()) < 1:
        return None
    means = torch.zeros(number, rows.size(1), dtype=rows.dtype).index_add_(0, labels[~held], rows[~held])
    means = means / counts[:, None]
    within = rows[~held] - means[labels[~held]]
    covariance = _shrunk(within.T @ within / within.size(0), within.size(0))
    weights = torch.linalg.solve(covariance, means.T)  # (width, classes)
    prior = (counts / counts.sum()).log()
    scores = rows[held] @ weights - 0.5 * (means.T * weights).sum(0) + prior
    truth = labels[held]
    losses = -scores.log_softmax(1).gather(1, truth[:, None])[:, 0]
    constant = -prior[truth]
    return LinearFit(
        kind="classes",
        held=int(held.sum()),
        outputs=number,
        width=rows.size(1),
        right=float((scores.argmax(1) == truth).double().mean()),
        majority=float((truth == int(counts.argmax())).double().mean()),
        loss=float(losses.mean()),
        constant=float(constant.mean()),
        error=_error(constant - losses),
    )


def _numbers(rows: Tensor, target: Tensor, held: Tensor) -> LinearFit | None:
    center = target[~held].mean(0)
    wanted = target - center
    if float(wanted[~held].square().mean()) <= 0:
        return None
    samples = int((~held).sum())
    covariance = _shrunk(rows[~held].T @ rows[~held] / samples, samples)
    weights = torch.linalg.solve(covariance, rows[~held].T @ wanted[~held] / samples)
    losses = (rows[held] @ weights - wanted[held]).square().mean(1)
    constant = wanted[held].square().mean(1)
    return LinearFit(
        kind="numbers",
        held=int(held.sum()),
        outputs=target.size(1),
        width=rows.size(1),
        right=None,
        majority=None,
        loss=float(losses.mean()),
        constant=float(constant.mean()),
        error=_error(constant - losses),
    )


def _error(differences: Tensor) -> float:
    return float(differences.std() / math.sqrt(max(1, differences.numel())))
