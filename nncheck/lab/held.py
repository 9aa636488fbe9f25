"""Losses on samples that stay the same: what a run has changed, sample by sample."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.feed import Feed, loader_failure
from nncheck.lab.micro import data_loss, sample_losses
from nncheck.lab.modes import set_mode
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import RandomState, seed_everything
from nncheck.losses.goal import accuracy, is_whole


@dataclass(frozen=True, kw_only=True)
class Level:
    """The loss of each sample of a fixed set at one moment (of each batch, where a loss cannot be taken apart).

    Terms that belong to no sample are spread evenly. apart: whether these are losses of samples. wrong: the share of labels that
    are not the model's first choice; None if there are no labels.
    """

    losses: tuple[float, ...]
    apart: bool
    wrong: float | None

    @property
    def mean(self) -> float:
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN for fewer than two losses."""
        number = len(self.losses)
        if number < 2:
            return math.nan
        return math.sqrt(sum((x - self.mean) ** 2 for x in self.losses) / (number - 1) / number)


def fall(before: Level, after: Level) -> tuple[float, float]:
    """(mean fall of the loss from one moment to the other, its t over the samples in pairs); (NaN, 0) where it cannot be told.

    A fall that is the same for every sample has an infinite t.
    """
    number = len(before.losses)
    pairs = [b - a for b, a in zip(before.losses, after.losses, strict=False)]
    if number < 2 or number != len(after.losses) or not all(map(math.isfinite, pairs)):
        return math.nan, 0.0
    mean = sum(pairs) / number
    error = math.sqrt(sum((x - mean) ** 2 for x in pairs) / (number - 1) / number)
    if error == 0:
        return mean, 0.0 if mean == 0 else math.copysign(math.inf, mean)
    return mean, mean / error


def level(sandbox: Sandbox, given: Sequence[Any]) -> Level:
    """The loss on these batches as the network is now, in the mode it is in; the same random numbers every time."""
    losses: list[float] = []
    right: list[tuple[float, int]] = []
    apart = True
    for index, batch in enumerate(given):
        seed_everything(sandbox.seed + 1 + index)
        outcome = sandbox.forward(batch)  # not under no_grad: a loss may hold a derivative of its own
        found = sample_losses(outcome, batches.size(batch))
        call = data_loss(outcome)
        if call is not None and len(found) > 1 and not is_whole(outcome, call):
            rest = float(outcome.loss.detach()) - sum(found) / len(
                found
            )  # a penalty or a second term: the same for all
            found = tuple(x + rest for x in found)
        apart = apart and (len(found) > 1 or batches.size(batch) == 1)
        losses.extend(found)
        share = accuracy(call)
        if share is not None:
            right.append((share, batches.size(batch)))
    total = sum(n for _, n in right)
    return Level(losses=tuple(losses), apart=apart, wrong=1 - sum(s * n for s, n in right) / total if total else None)


def level_if_possible(sandbox: Sandbox, given: Sequence[Any]) -> Level | None:
    """As `level`; None where there are no batches, or the model gives no loss in this mode."""
    if not given:
        return None
    try:
        return level(sandbox, given)
    except (TargetError, CannotMeasure):
        return None


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a moment; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    set_mode(model, False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def validation_batches(sandbox: Sandbox, count: int) -> list[Any]:
    """Up to `count` batches of the validation set as large as the training loader's, its samples drawn at random.

    A validation loader is not shuffled, so its first batches may be of one class. Where samples cannot be drawn (a stream, a
    sampler of the user's own form), its first batches. Empty without a validation loader.
    """
    loader = sandbox.setup.val_loader
    if loader is None:
        return []
    outside = RandomState()
    try:
        drawn = _drawn(sandbox, loader, count)
        if drawn:
            return drawn
        return Feed(loader, device=sandbox.device, seed=sandbox.seed, clock=sandbox.check_time).take(count)
    except TargetError as error:
        raise CannotMeasure(f"the validation loader fails: {error.message}") from error
    finally:
        outside.restore()


def _drawn(sandbox: Sandbox, loader: Any, count: int) -> list[Any]:
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        return []
    try:
        order = list(loader.sampler)
    except TypeError:
        return []
    size = min(sandbox.feed.batch_size, loader.batch_size or sandbox.feed.batch_size)
    if not all(isinstance(index, int) for index in order) or len(order) <= size * count:
        return []
    chosen = random.Random(sandbox.seed).sample(order, size * count)
    seed_everything(sandbox.seed)
    found: list[Any] = []
    try:
        for start in range(0, len(chosen), size):
            sandbox.check_time()
            samples = [loader.dataset[index] for index in chosen[start : start + size]]
            batch = batches.to_device(loader.collate_fn(samples), sandbox.device)
            found.append(batches.map_tensors(torch.clone, batch))
    except Exception as error:
        if isinstance(error, TargetError):
            raise
        raise loader_failure(error, len(found)) from error
    return found
