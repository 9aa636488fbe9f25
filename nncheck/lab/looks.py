"""What a network answers to the same samples at different moments of its training, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.held import eval_mode
from nncheck.lab.micro import data_loss, mean_loss
from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.losses.call import CLASSIFICATION, soft_targets

# Predictions looked at, and samples whose answers are kept for the picture.
ROWS, SHOWN = 256, 24
# Classes whose counts are kept.
CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Look:
    """The answers after `update` updates; probabilities for classes and yes-no targets, else the outputs as they are.

    loss: of these samples. spread: standard deviation over the samples, rms over the outputs; scale: rms of the outputs.
    change: mean absolute difference from the look before (halved for classes: the probability that moved), None at the first.
    flips: the share of the samples with another choice than at the look before, None without choices.
    chosen: how many samples are given each class (the first `CLASSES`); empty without classes.
    shown: for the first samples, the probability of the right class, or the first output.
    """

    update: int
    loss: float
    spread: float
    scale: float
    change: float | None
    flips: float | None
    chosen: tuple[int, ...]
    shown: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the samples ask for.

    kind: "classes", "yes-no", "numbers" (a known loss on numbers) or "outputs" (none, or outputs compared with each other).

    spread: of the targets as `Look.spread` is of the answers, None if unknown. labels: how many different ones.
    """

    kind: str
    samples: int
    spread: float | None
    labels: int


class Looker:
    """Asks the same batch again and again; keeps the last answers to compare with."""

    def __init__(self, sandbox: Sandbox, batch: Any) -> None:
        self._sandbox, self._batch = sandbox, batch
        self._last: Tensor | None = None
        self.wanted: Wanted | None = None
        self.looks: list[Look] = []
        self.possible = True

    def look(self, update: int) -> None:
        """One look, in eval mode. After a failure none is tried again."""
        if not self.possible:
            return
        with eval_mode(self._sandbox.model):
            seed_everything(self._sandbox.seed)
            try:
                outcome = self._sandbox.forward(self._batch)
            except (TargetError, CannotMeasure):
                self.possible = False
                return
        with torch.no_grad():
            self._note(update, outcome)

    def _note(self, update: int, outcome: Outcome) -> None:
        found = _answers(outcome, batches.size(self._batch))
        if found is None or (self._last is not None and found[1].shape != self._last.shape):
            self.possible = False
            return
        kind, rows, target = found
        if self.wanted is None:
            self.wanted = _wanted(kind, rows, target)
        change, flips = None, None
        if self._last is not None:
            apart = (rows - self._last).abs()
            change = float(apart.sum(1).mean()) / 2 if kind == "classes" else float(apart.mean())
            if kind in ("classes", "yes-no"):
                flips = float((_choice(kind, rows) != _choice(kind, self._last)).double().mean())
        chosen: tuple[int, ...] = ()
        if kind == "classes":
            chosen = tuple(torch.bincount(rows.argmax(1), minlength=rows.size(1))[:CLASSES].tolist())
        shown = rows[:SHOWN, 0]
        if kind == "classes" and target is not None:
            shown = rows[:SHOWN].gather(1, target[:SHOWN].clamp(0, rows.size(1) - 1)[:, None])[:, 0]
        self._last = rows
        self.looks.append(
            Look(
                update=update,
                loss=mean_loss(outcome),
                spread=_spread(rows),
                scale=float(rows.square().mean().sqrt()),
                change=change,
                flips=flips,
                chosen=chosen,
                shown=tuple(shown.tolist()),
            )
        )


def _answers(outcome: Outcome, size: int) -> tuple[str, Tensor, Tensor | None] | None:
    """(kind, (answers, outputs) in float64, labels or targets), the first `ROWS` predictions; None if there is nothing to see."""
    call = data_loss(outcome)
    # A target with a gradient is no target: two outputs are compared with each other.
    if call is not None and not call.input.is_complex() and call.input.ndim and not call.target.requires_grad:
        input, target = call.input.detach(), call.target.detach()
        if call.kind in CLASSIFICATION and input.ndim > 1 and not soft_targets(call):
            rows, labels = input.movedim(1, -1).flatten(0, -2), target.flatten()
            kept = labels != call.options.get("ignore_index", -100)
            rows, labels = rows[kept][:ROWS].double().cpu(), labels[kept][:ROWS].cpu()
            return (
                ("classes", rows.softmax(1) if call.kind == "cross-entropy" else rows.exp(), labels)
                if len(rows)
                else None
            )
        if input.size(0) == size and target.shape == input.shape and not target.is_complex():
            rows, wanted = (t.reshape(size, -1)[:ROWS].double().cpu() for t in (input, target))
            if call.kind in ("bce", "bce-with-logits"):
                return "yes-no", rows.sigmoid() if call.kind == "bce-with-logits" else rows, wanted
            return "numbers", rows, wanted
    for _, output in batches.named_tensors(outcome.output):
        if output.dtype.is_floating_point and output.ndim and output.size(0) == size and output.numel():
            return "outputs", output.detach().reshape(size, -1)[:ROWS].double().cpu(), None
    return None


def _wanted(kind: str, rows: Tensor, target: Tensor | None) -> Wanted:
    if target is None:
        return Wanted(kind=kind, samples=len(rows), spread=None, labels=0)
    if kind == "classes":
        asked = torch.nn.functional.one_hot(target.clamp(0, rows.size(1) - 1).long(), rows.size(1)).double()
    else:
        asked = target
    return Wanted(kind=kind, samples=len(rows), spread=_spread(asked), labels=len(torch.unique(target)))


def _spread(rows: Tensor) -> float:
    return float(rows.var(0, correction=0).mean().sqrt())


def _choice(kind: str, rows: Tensor) -> Tensor:
    return rows.argmax(1) if kind == "classes" else rows > 0.5
