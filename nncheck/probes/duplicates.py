"""How often one sample comes again: fingerprints of inputs and labels over the pass, and the indices that the sampler draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.indices import stores_items
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.training_data import TrainingData
from nncheck.registry import probe
from nncheck.survey.data_state import drawn_items

# Labels of repeated inputs are compared as classes up to this many different ones.
MOST_LABELS = 1000


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Samples of one pass over the training loader.

    samples: how many; distinct: how many different inputs. stored: whether the data set holds an entry for each item, so that
    equal items are copies. few_values: whether inputs take so few values that they meet by chance; bits: what an input could tell.
    drawn, drawn_distinct, items: indices drawn in an epoch, how many different ones, out of how many; -1 where there are none.
    weights: of a sampler that draws by weights, how many it has; -1 for others.
    classes: different labels, 0 where labels are no classes. conflicts: samples whose input comes with another label elsewhere;
    floor: the mean entropy of labels given the input, in nats, below which no loss on classes can fall; label_entropy: without it.
    distinct_entropy: of the labels of different inputs. most: how often the most frequent input comes.
    """

    samples: int
    distinct: int
    complete: bool = True
    stored: bool = False
    few_values: bool = False
    bits: float = 0.0
    drawn: int = -1
    drawn_distinct: int = -1
    items: int = -1
    weights: int = -1
    classes: int = 0
    conflicts: int = 0
    floor: float = 0.0
    label_entropy: float = 0.0
    distinct_entropy: float = 0.0
    most: int = 1


@probe
def duplicates(sandbox: Sandbox, data: TrainingData) -> Duplicates:
    """Count equal fingerprints, and equal indices."""
    marks = data.survey.samples
    inputs = torch.frombuffer(marks.inputs, dtype=torch.int64) if marks.count else torch.zeros(0, dtype=torch.int64)
    values, codes, counts = torch.unique(inputs, return_inverse=True, return_counts=True)
    few, bits = _few_values(data)
    drawn = drawn_items(sandbox, sandbox.setup.train_loader)
    weights = getattr(getattr(sandbox.setup.train_loader, "sampler", None), "weights", None)
    found: dict[str, Any] = {
        "samples": marks.count,
        "distinct": values.numel(),
        "complete": data.survey.coverage.complete,
        "few_values": few,
        "bits": bits,
        "stored": drawn is not None and stores_items(drawn.base),
        "drawn": -1 if drawn is None else len(drawn.drawn),
        "drawn_distinct": -1 if drawn is None else len(set(drawn.drawn)),
        "items": -1 if drawn is None else drawn.of,
        "weights": len(weights) if isinstance(weights, (Tensor, Sequence)) else -1,
        "most": int(counts.max()) if counts.numel() else 0,
    }
    if marks.count and len(marks.targets) == marks.count and (marks.whole or not marks.label):
        targets = torch.frombuffer(marks.targets, dtype=torch.int64)
        labels, which = torch.unique(targets, return_inverse=True)
        if labels.numel() <= MOST_LABELS and len(marks.label) == marks.count:
            found.update(_conflicts(codes, counts, which, labels.numel()))
    return Duplicates(**found)


def _conflicts(codes: Tensor, counts: Tensor, which: Tensor, classes: int) -> dict[str, Any]:
    cells, number = torch.unique(codes * classes + which, return_counts=True)
    whole = counts.double()
    inside = torch.xlogy(whole, whole).sum() - torch.xlogy(number.double(), number.double()).sum()
    kinds = torch.bincount(cells // classes, minlength=counts.numel())
    return {
        "classes": classes,
        "conflicts": int(counts[kinds > 1].sum()),
        "floor": max(0.0, float(inside)) / which.numel(),
        "label_entropy": _entropy(torch.bincount(which, minlength=classes)),
        "distinct_entropy": _entropy(torch.bincount(cells % classes, minlength=classes)),
    }


def _entropy(counts: Tensor) -> float:
    share = counts.double() / counts.sum()
    return -float(torch.xlogy(share, share).sum())


def _few_values(data: TrainingData) -> tuple[bool, float]:
    """Whether inputs may be equal by chance, and the most bits that one could hold.

    Counts, codes and flags: few numbers of few values each. Two equal rows of measured numbers, or two equal images, are copies.
    """
    bits, discrete = 0.0, True
    for one in data.survey.inputs:
        size = one.values / max(1, one.looked_at)
        if one.distinct is None and one.kind == "float":
            discrete = False
        elif one.distinct is None:
            bits += size * 10
        else:
            bits += size * torch.tensor(float(max(one.distinct, 1))).log2().item()
    return discrete, bits
