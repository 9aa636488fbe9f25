"""How far each update moves the weights, and whether the loss falls as far as the gradient says it should."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.norms import norms


@dataclass(frozen=True, kw_only=True)
class Moves:
    """One trained tensor: how large its updates are beside itself.

    rate, decay, group: of its optimizer group at the rate meant. ratio: median of |update| / |weight| over the updates counted;
    None if none was. gradient: median gradient norm. start, end: the norm of the tensor. embedding: a table of which an update
    touches some rows only. eps: what the optimizer adds to the gradient's size before dividing by it (Adam); 0 if not.
    """

    name: str
    shape: tuple[int, ...]
    group: int
    rate: float
    decay: float
    ratio: float | None
    gradient: float
    start: float
    end: float
    embedding: bool
    eps: float = 0.0

    @property
    def of_rate(self) -> float | None:
        """Length of an update for each of its numbers, as a part of the rate: 0.1 to 1 for Adam under a small eps."""
        if self.ratio is None or not self.rate or not self.size:
            return None
        return self.ratio * self.start / math.sqrt(self.size) / self.rate

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def matrix(self) -> bool:
        """Whether it is a weight matrix that started away from zero: biases, norm gains and zero-initialised tensors are not."""
        wide = len([n for n in self.shape if n > 1]) >= 2 or (len(self.shape) == 2 and self.size > 1)
        return wide and self.start > 0 and not self.embedding


@dataclass(frozen=True, kw_only=True)
class Descent:
    """One update, on its own batch with its own random numbers: the fall of the loss against what the gradient predicts.

    predicted: minus the gradient times the update. again: how far the same loss is off when it is only computed again.
    """

    update: int
    loss: float
    predicted: float
    realised: float
    again: float


class Mover:
    """Watches chosen updates: `before(index)` when the gradients are there, `after(index, outcome)` when the update was made."""

    def __init__(self, sandbox: Sandbox, optimizer: torch.optim.Optimizer) -> None:
        self._sandbox = sandbox
        self._rows = _rows(sandbox, optimizer)
        self._tensors = [tensor for _, tensor, _ in self._rows]
        self._tables = {
            id(module.weight)
            for module in sandbox.model.modules()
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        }
        self._groups = [
            (float(group.get("lr", 0.0)), float(group.get("weight_decay") or 0.0), _eps(group))
            for group in optimizer.param_groups
        ]
        self._start = _sizes(self._tensors)
        self._ratios: list[list[float]] = []
        self._gradients: list[list[float]] = []
        self._weights: list[Tensor] = []
        self._slopes: list[Tensor | None] = []
        self._again = 0.0
        self.gradient: list[float] = []
        self.descents: list[Descent] = []

    def before(self, index: int, *, weights: bool, slopes: bool, batch: Any) -> None:
        """weights: the size of this update is wanted. slopes: its descent too."""
        sizes = [n or 0.0 for n in norms([p.grad for p in self._tensors])]
        self.gradient.append(math.sqrt(sum(n * n for n in sizes)))
        self._gradients.append(sizes)
        with torch.no_grad():
            self._weights = [p.detach().clone() for p in self._tensors] if weights or slopes else []
            self._slopes = (
                [p.grad.detach().clone() if p.grad is not None else None for p in self._tensors] if slopes else []
            )
        if slopes:
            self._again = self._loss(index, batch)

    def after(self, index: int, loss: float, *, weights: bool, batch: Any) -> None:
        if not self._weights:
            return
        with torch.no_grad():
            moved = [p.detach() - was for p, was in zip(self._tensors, self._weights, strict=True)]
            if weights:
                was = _sizes(self._weights)
                self._ratios.append([m / w if w > 0 else math.nan for m, w in zip(_sizes(moved), was, strict=True)])
            slopes, self._slopes, self._weights = self._slopes, [], []
            if not slopes:
                return
            predicted = 0.0
            for slope, step in zip(slopes, moved, strict=True):
                if slope is not None:
                    slope = slope.to_dense() if slope.layout is not torch.strided else slope
                    predicted -= float((slope.double() * step.double()).sum())
            del moved, slopes
        self.descents.append(
            Descent(
                update=index,
                loss=loss,
                predicted=predicted,
                realised=loss - self._loss(index, batch),
                again=abs(self._again - loss),
            )
        )

    def moves(self) -> tuple[Moves, ...]:
        """What was seen, tensor by tensor."""
        end = _sizes(self._tensors)
        found = []
        for row, (name, tensor, group) in enumerate(self._rows):
            ratios = [each[row] for each in self._ratios if math.isfinite(each[row])]
            found.append(
                Moves(
                    name=name,
                    shape=tuple(tensor.shape),
                    group=group,
                    rate=self._groups[group][0],
                    decay=self._groups[group][1],
                    ratio=median(ratios) if ratios else None,
                    gradient=median(each[row] for each in self._gradients) if self._gradients else 0.0,
                    start=self._start[row],
                    end=end[row],
                    embedding=id(tensor) in self._tables,
                    eps=self._groups[group][2],
                )
            )
        return tuple(found)

    def _loss(self, index: int, batch: Any) -> float:
        seed_everything(self._sandbox.seed + 1 + index)  # as `train` does: the same dropout masks
        outcome: Outcome = self._sandbox.forward(batch, index=index)
        return float(outcome.loss.detach())


def _eps(group: dict[str, Any]) -> float:
    eps = group.get("eps")
    return float(eps) if isinstance(eps, (int, float)) else 0.0


def _rows(sandbox: Sandbox, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor, int]]:
    """(name, tensor, group) of everything the optimizer holds and trains, the model's own names first."""
    names: dict[int, str] = {}
    loss = sandbox.setup.loss_fn
    for prefix, owner in (("", sandbox.model), ("loss_fn.", loss)):
        if isinstance(owner, nn.Module):
            for name, p in owner.named_parameters():
                names.setdefault(id(p), prefix + name)
    held: dict[int, tuple[Tensor, int]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            if p.requires_grad and p.is_leaf and p.layout is torch.strided and not nn.parameter.is_lazy(p):
                held.setdefault(id(p), (p, index))
    order = [i for i in names if i in held] + [i for i in held if i not in names]
    return [(names.get(i, f"group {held[i][1]}, a tensor {list(held[i][0].shape)}"), *held[i]) for i in order]


def _sizes(tensors: list[Tensor]) -> list[float]:
    return [n or 0.0 for n in norms(tensors)]
