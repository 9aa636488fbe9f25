"""What a model would have to answer so that every prediction is right, or every one wrong: made from the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.batch import named_tensors

# Scores this far from zero are sure of themselves, and their losses still numbers.
SURE = 10.0

_CLASSES = ("cross-entropy", "nll", "multi-margin")
_YES_OR_NO = ("bce", "bce-with-logits")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a loss compares outputs with targets. target: the name of the tensor of a batch that holds them, as it is.

    classes: the dimension of the output in which the classes lie; None if each value of the output says yes or no.
    """

    target: str
    classes: int | None


def scoring_of(kind: str, output: Tensor, scored: Tensor, target: Tensor, batch: Any) -> Scoring | None:
    """How one call of a loss compared a model's `output` with a tensor of the batch; None if that is not certain.

    scored, target: what the loss was given. It has to be the output's own values, in their order, and the batch's own targets.
    """
    name = next(
        (
            name
            for name, tensor in named_tensors(batch)
            if tensor is target or (tensor.numel() and same_values(tensor, target))
        ),
        None,
    )
    if name is None or scored.numel() != output.numel():
        return None
    if kind in _YES_OR_NO and target.numel() == output.numel():
        return Scoring(target=name, classes=None)
    if kind not in _CLASSES or target.is_floating_point():
        return None
    if scored.shape == output.shape and output.dim() > 1:
        return Scoring(target=name, classes=1)
    # Positions of a text flattened before the loss: the classes come last.
    if scored.dim() == 2 and output.dim() == 3 and scored.shape[1] == output.shape[2] and _lies_as(scored, output):
        return Scoring(target=name, classes=2)
    return None


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order."""
    return one.numel() == other.numel() and bool((one.reshape(-1) == other.reshape(-1)).all())


def _lies_as(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.detach().reshape(-1), other.detach().reshape(-1))


def answer(output: Tensor, target: Tensor, scoring: Scoring, *, right: bool) -> Tensor | None:
    """The output as it would be if all of it were right, or wrong; None where that is not certain."""
    with torch.no_grad():
        given = output.detach()
        if scoring.classes is None:
            return _yes_or_no(given, target, right=right)
        rest = [*given.shape[: scoring.classes], *given.shape[scoring.classes + 1 :]]
        if target.numel() != _product(rest) or target.shape[0] != given.shape[0]:
            return None
        classes = given.shape[scoring.classes]
        labels = target.reshape(rest).long()
        if classes < 2 or not bool(((labels >= 0) & (labels < classes)).all()):
            return None
        if not right:
            labels = (labels + 1) % classes
        chosen = torch.nn.functional.one_hot(labels, classes).movedim(-1, scoring.classes).to(given.dtype)
        probable = bool((given >= 0).all()) and bool(((given.sum(scoring.classes) - 1).abs() < 1e-3).all())
        # Logarithms of probabilities are scores as well.
        return chosen if probable else torch.log_softmax((2 * chosen - 1) * SURE, dim=scoring.classes)


def _yes_or_no(output: Tensor, target: Tensor, *, right: bool) -> Tensor | None:
    if target.numel() != output.numel() or not bool(((target == 0) | (target == 1)).all()):
        return None
    chosen = target.reshape(output.shape).to(output.dtype)
    if not right:
        chosen = 1 - chosen
    return chosen if bool(((output >= 0) & (output <= 1)).all()) else (2 * chosen - 1) * SURE


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
