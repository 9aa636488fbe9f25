"""What training and validation data share: objects, indices, exact inputs, stretches of a series, close neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab.sandbox import Sandbox
from nncheck.probes.training_data import TrainingData
from nncheck.probes.validation_data import ValidationSurvey
from nncheck.registry import probe
from nncheck.survey.data_state import drawn_items
from nncheck.survey.samples import SKETCH, SampleMarks

# Neighbours are sought for so many validation samples among so many training samples.
ASKED, AMONG = 1024, 8192
# A nearest neighbour is compared with the one of this rank.
RANK = 5


@dataclass(frozen=True, kw_only=True)
class SplitOverlap:
    """Both passes compared. `there`: whether there is a validation loader; `complete`: whether both were seen whole.

    same: "loader" or "data" if one object is given for both and no indices tell them apart, else "".
    shared_items, val_items: items of one data set drawn by both, of those that validation draws; -1 where that is not known.
    val: validation samples; seen: of these, whose input is among the training inputs, bit for bit. within: the share of
    training inputs that come more than once among themselves. seen_label: of those seen, with a label of the same kind too.
    windows: validation samples that share a block of `block` steps with a training window; steps: of a window; -1 where not known.
    near: share of validation samples whose nearest training sample is less than a twentieth as far as the one of rank 5;
    near_within: the same among training samples; asked: of how many.
    """

    there: bool = False
    complete: bool = True
    same: str = ""
    shared_items: int = -1
    val_items: int = -1
    train: int = 0
    val: int = 0
    seen: int = 0
    within: float = 0.0
    windows: int = -1
    steps: int = 0
    block: int = 0
    near: float = 0.0
    near_within: float = 0.0
    asked: int = 0


@probe
def split_overlap(sandbox: Sandbox, train: TrainingData, validation: ValidationSurvey) -> SplitOverlap:
    """Compare objects and indices first, then what the passes took down."""
    if validation.survey is None:
        return SplitOverlap()
    setup = sandbox.setup
    mine, theirs = train.survey.samples, validation.survey.samples
    found: dict[str, Any] = {
        "there": True,
        "complete": train.survey.coverage.complete and validation.survey.coverage.complete,
        "train": mine.count,
        "val": theirs.count,
    }
    if setup.val_loader is setup.train_loader:
        found["same"] = "loader"
    one, other = drawn_items(sandbox, setup.train_loader), drawn_items(sandbox, setup.val_loader)
    if one is not None and other is not None and one.drawn and other.drawn and _same_items(one.base, other.base):
        items = set(other.drawn)
        found["val_items"] = len(items)
        found["shared_items"] = len(items & set(one.drawn))
        if set(one.drawn) == items:
            found["same"] = found.get("same", "") or "data"
    if mine.count and theirs.count:
        a, b = _hashes(mine), _hashes(theirs)
        values, counts = torch.unique(a, return_counts=True)
        found["seen"] = int(torch.isin(b, values).sum())
        found["within"] = float(counts[counts > 1].sum()) / a.numel()
        found.update(_windows(mine, theirs))
        found.update(_neighbours(mine, theirs))
    return SplitOverlap(**found)


def _hashes(marks: SampleMarks) -> Tensor:
    return torch.frombuffer(marks.inputs, dtype=torch.int64).clone()


def _same_items(one: Any, other: Any) -> bool:
    """Whether two data sets hold the same items at the same indices: one object, or two around the same memory or list."""
    if one is other:
        return True
    if type(one) is not type(other) or len(one) != len(other):
        return False
    mine, theirs = set(_held(one)), set(_held(other))
    return bool(mine) and mine == theirs


def _held(data: Any) -> Iterator[tuple[str, int, int]]:
    """The memory of arrays, and the identity of lists, with an entry for each item."""
    length = len(data)
    for name, value in vars(data).items() if hasattr(data, "__dict__") else ():
        for index, item in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(item, Tensor) and item.ndim and item.size(0) == length:
                yield name, index, item.data_ptr()
            elif hasattr(item, "__array_interface__") and len(getattr(item, "shape", ())) and len(item) == length:
                yield name, index, item.__array_interface__["data"][0]
            elif isinstance(item, list) and len(item) == length and name != "indices":
                yield name, index, hash(tuple(map(repr, item[:64]))) if length else 0


def _windows(mine: SampleMarks, theirs: SampleMarks) -> dict[str, Any]:
    """Validation windows that share a block with a training one, where steps are told apart well enough.

    In windows of one series the block begins at another step of each; at the same step of both it is the columns of a table,
    whose flags and codes are alike by chance.
    """
    if not mine.blocks or not theirs.blocks or (mine.steps, mine.block) != (theirs.steps, theirs.block):
        return {}
    if mine.distinct_steps < min(2 * mine.steps, 64) or 2 * mine.distinct_steps < min(len(mine.blocks), 8192):
        return {}
    none = torch.iinfo(torch.int64).max
    blocks = torch.frombuffer(mine.blocks, dtype=torch.int64)
    asked = torch.frombuffer(theirs.blocks, dtype=torch.int64)
    known, which = blocks.unique(return_inverse=True)
    offsets = torch.frombuffer(mine.offsets, dtype=torch.int64)[: which.numel()]
    first = torch.full_like(known, none).scatter_reduce_(0, which, offsets, "amin")
    last = torch.full_like(known, -1).scatter_reduce_(0, which, offsets, "amax")
    at = torch.searchsorted(known, asked).clamp_max(known.numel() - 1)
    own = torch.frombuffer(theirs.offsets, dtype=torch.int64)[: asked.numel()]
    shared = (known[at] == asked) & (asked != none) & ((first[at] != own) | (last[at] != own))
    # Equal inputs are counted elsewhere.
    equal = torch.isin(_hashes(theirs)[: asked.numel()], _hashes(mine))
    return {"windows": int((shared & ~equal).sum()), "steps": mine.steps, "block": mine.block}


def _neighbours(mine: SampleMarks, theirs: SampleMarks) -> dict[str, Any]:
    """How much nearer the nearest sample is than the fifth: across the split, and among the training samples."""
    if mine.values != theirs.values or not mine.sketched or not theirs.sketched:
        return {}
    a = torch.frombuffer(mine.sketch, dtype=torch.float32).view(-1, SKETCH)[:AMONG].double()
    b = torch.frombuffer(theirs.sketch, dtype=torch.float32).view(-1, SKETCH)[:ASKED].double()
    if a.size(0) < 20 * RANK or b.size(0) < 20 or not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return {}
    equal = torch.isin(_hashes(theirs)[: b.size(0)], _hashes(mine))
    across = torch.cdist(b[~equal], a).topk(RANK, largest=False).values
    among = torch.cdist(a[:ASKED], a).topk(RANK + 1, largest=False).values[:, 1:]
    among = among[among[:, 0] > 0]

    def near(distances: Tensor) -> float:
        if not distances.size(0):
            return 0.0
        return float((distances[:, 0] < distances[:, -1] / 20).double().mean())

    return {"near": near(across), "near_within": near(among), "asked": across.size(0)}
