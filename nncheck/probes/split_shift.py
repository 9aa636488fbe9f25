"""Training and validation data side by side: spread of inputs, labels, types, and whether validation items change by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from nncheck.errors import OutOfTime
from nncheck.lab import batch as batches, fingerprint
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.probes.training_data import TrainingData
from nncheck.probes.validation_data import ValidationData
from nncheck.registry import probe
from nncheck.survey.data_state import reading
from nncheck.survey.features import InputStatistics
from nncheck.survey.labels import TargetStatistics
from nncheck.survey.moments import Spread

# Validation items that are fetched twice.
ITEMS = 16
# The last axis of a series is its features up to this length; a longer one is a row of pixels or of steps.
MOST_FEATURES = 64
# Token sequences are at least so long, and hold so many different tokens. A token should come if it is expected so often.
TOKENS, TOKENS_KNOWN, SHOULD_COME = 4, 12, 20
# Positions compared one by one are shown up to this many.
SHOWN = 24


@dataclass(frozen=True, kw_only=True)
class Side:
    """One tensor in one of the loaders. low, high, mean, std: of all values; means, stds: per feature or channel, if any."""

    samples: int
    dtype: str
    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    std: float
    means: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One tensor in both. what: "features", "channels", or "" where positions have no meaning of their own."""

    name: str
    train: Side
    val: Side
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class SplitShift:
    """What differs between the two.

    inputs: tensors by name. numbers: a float target of one number a sample, if there is one. train_labels, val_labels:
    (class, samples), where labels are whole numbers, one for each sample. weighted: whether the training sampler draws by weights
    or with replacement.
    tokens: of token sequences, the share of training tokens that validation never has although it should, and the other way round.
    items: validation items fetched twice; changed: of these, whose inputs were not the same; labels_kept: whether all labels were.
    same_data: whether both loaders read from one data set.
    """

    inputs: tuple[Pair, ...] = ()
    numbers: Pair | None = None
    train_labels: tuple[tuple[float, int], ...] = ()
    val_labels: tuple[tuple[float, int], ...] = ()
    weighted: bool = False
    tokens: tuple[float, float] | None = None
    items: int = 0
    changed: int = 0
    labels_kept: bool = False
    same_data: bool = False


@probe
def split_shift(sandbox: Sandbox, train: TrainingData, validation: ValidationData) -> SplitShift:
    """Put the two surveys side by side; fetch validation items again under another seed."""
    setup = sandbox.setup
    pairs = []
    for one in train.survey.inputs:
        other = next((o for o in validation.survey.inputs if o.name == one.name), None)
        if other is not None:
            pairs.append(_pair(one, other))
    mine, theirs = _scalar(train.survey.targets), _scalar(validation.survey.targets)
    classes = mine is not None and theirs is not None and mine.whole == theirs.whole == 1.0
    numbers = mine is not None and theirs is not None and mine.kind == theirs.kind == "float" and not classes
    loader = setup.train_loader
    sampler = getattr(loader, "sampler", None)
    items, changed, kept = _items_again(sandbox, setup.val_loader)
    return SplitShift(
        inputs=tuple(pairs),
        numbers=Pair(name=mine.name, train=_target(mine), val=_target(theirs)) if numbers and mine and theirs else None,
        train_labels=mine.counts or () if classes and mine else (),
        val_labels=theirs.counts or () if classes and theirs else (),
        weighted=hasattr(sampler, "weights") or bool(getattr(sampler, "replacement", False)) or _own_batches(loader),
        tokens=_tokens(train, validation),
        items=items,
        changed=changed,
        labels_kept=kept,
        same_data=_base(loader) is not None and _base(loader) is _base(setup.val_loader),
    )


def _pair(one: InputStatistics, other: InputStatistics) -> Pair:
    axis, what = 0, ""
    if len(one.shape) == 1:
        axis, what = 1, "features"
    elif len(one.shape) == 2 and one.shape[-1] <= MOST_FEATURES and one.shape[0] > one.shape[-1]:
        axis, what = 2, "features"
    elif len(one.shape) >= 3 and one.shape[0] <= 4:
        axis, what = 1, "channels"
    mine, theirs = dict(one.axes).get(axis), dict(other.axes).get(axis)
    if mine is None or theirs is None or len(mine) != len(theirs):
        what, mine, theirs = "", None, None
    return Pair(name=one.name, train=_side(one, mine), val=_side(other, theirs), what=what)


def _side(one: InputStatistics, spread: Spread | None) -> Side:
    return Side(
        samples=one.looked_at,
        dtype=one.dtype,
        kind=one.kind,
        shape=one.shape,
        low=one.low,
        high=one.high,
        mean=one.mean,
        std=one.std,
        means=spread.mean if spread else (),
        stds=spread.std if spread else (),
    )


def _target(one: TargetStatistics) -> Side:
    return Side(
        samples=one.samples,
        dtype=one.dtype,
        kind=one.kind,
        shape=one.shape,
        low=one.low,
        high=one.high,
        mean=one.mean,
        std=one.std,
    )


def _scalar(targets: Sequence[TargetStatistics]) -> TargetStatistics | None:
    return targets[0] if len(targets) == 1 and targets[0].values == targets[0].samples else None


def _tokens(train: TrainingData, validation: ValidationData) -> tuple[float, float] | None:
    """The first input that holds token sequences: shares of tokens that the other side lacks, where it should have many."""
    for one in train.survey.others:
        other = next((o for o in validation.survey.others if o.name == one.name), None)
        if other is None or one.kind != "integer" or other.kind != "integer" or not one.counts or not other.counts:
            continue
        if one.values < TOKENS * one.samples or len(one.counts) < TOKENS_KNOWN:
            continue
        mine, theirs = dict(one.counts), dict(other.counts)
        return _lacking(mine, theirs), _lacking(theirs, mine)
    return None


def _lacking(mine: dict[float, int], theirs: dict[float, int]) -> float:
    total, asked = sum(mine.values()), sum(theirs.values())
    lacking = sum(n for token, n in mine.items() if token not in theirs and n * asked >= SHOULD_COME * total)
    return lacking / total


def _own_batches(loader: Any) -> bool:
    """Whether a batch sampler of the user's own decides what is drawn."""
    return isinstance(loader, DataLoader) and loader.batch_size is None and loader.batch_sampler is not None


def _base(loader: Any) -> Any:
    """The innermost data set under subsets."""
    data: Any = getattr(loader, "dataset", None)
    while hasattr(data, "indices") and hasattr(data, "dataset"):
        data = data.dataset
    return data


def _items_again(sandbox: Sandbox, loader: Any) -> tuple[int, int, bool]:
    """(validation items fetched under two seeds, those whose inputs differ, whether all labels were kept).

    An item of which one part stays while another of its kind is drawn anew is a pair of samples, not an augmented one.
    """
    data = getattr(loader, "dataset", None)
    if data is None or isinstance(data, IterableDataset) or not hasattr(data, "__getitem__"):
        return 0, 0, False

    def fetch(indices: Sequence[int], seed: int) -> Iterator[tuple[dict[str, tuple[str, str]], str, Any]]:
        seed_everything(seed)
        for index in indices:
            sandbox.check_time()
            inputs, target = batches.split(data[index])
            parts = {
                name: (f"{t.dtype}{tuple(t.shape)}", fingerprint.of(t)) for name, t in batches.named_tensors(inputs)
            }
            yield parts or {"": ("", fingerprint.of(inputs))}, fingerprint.of(target), target

    with reading(sandbox, loader):
        try:
            length = len(data)
            indices = sorted({i * (length - 1) // (ITEMS - 1) for i in range(ITEMS)}) if length else []
            one = list(fetch(indices, sandbox.seed + 1))
            other = list(fetch(indices, sandbox.seed + 2))
        except (OutOfTime, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001  # the user's data set may raise anything; the pass over the data reports it
            return 0, 0, False
    changed = sum(_changed(a[0], b[0]) for a, b in zip(one, other, strict=True))
    kept = all(a[1] == b[1] and _is_label(a[2]) for a, b in zip(one, other, strict=True))
    return len(one), changed, kept


def _changed(one: dict[str, tuple[str, str]], other: dict[str, tuple[str, str]]) -> bool:
    stay = {kind for name, (kind, mark) in one.items() if other.get(name) == (kind, mark)}
    return one != other and not stay & {kind for name, (kind, mark) in one.items() if other.get(name) != (kind, mark)}


def _is_label(target: Any) -> bool:
    """Whether a target is one class: a whole number."""
    if isinstance(target, torch.Tensor):
        return target.numel() == 1 and not target.is_floating_point()
    return isinstance(target, int) or type(target).__name__.startswith(("int", "uint"))
