"""Small fresh batches: the user's batches cut into parts, so that more updates fit into the same number of samples."""

from __future__ import annotations

import random
from typing import Any

import torch

from nncheck.lab import batch as batches
from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, elements

# A quarter of the user's batch: four times the updates for the same cost, while a rate chosen for the whole batch still
# suits it. Never fewer than 16 samples: with 8 of 32, SGD at 0.2 with momentum killed a network that it trains well.
PARTS = 4
FEWEST = 16
# Micro-batches of this many batches are shuffled together, so that a loader sorted by label does not feed one class at a time.
WINDOW = 8


def micro_size(sandbox: Sandbox) -> int:
    """Samples in a micro-batch; the whole batch where it cannot be cut."""
    size = sandbox.feed.batch_size
    if not splits(sandbox.feed.first):
        return size
    return min(size, max(FEWEST, size // PARTS))


def micro_batches(sandbox: Sandbox, count: int, *, whole: bool = False) -> list[Any]:
    """Up to `count` micro-batches of one epoch; no sample comes twice. The first ones are the same for every `count`."""
    full = sandbox.feed.batch_size
    size = full if whole else micro_size(sandbox)
    parts = max(1, full // size)
    needed = -(-count // (parts * WINDOW)) * WINDOW if parts > 1 else count
    order = random.Random(sandbox.seed)
    generator = torch.Generator().manual_seed(sandbox.seed)
    taken = sandbox.feed.take(needed)
    found: list[Any] = []
    for start in range(0, len(taken), WINDOW):
        window: list[Any] = []
        for one in taken[start : start + WINDOW]:
            here = batches.size(one)
            if parts == 1 or not splits(one):
                window.append(one)
                continue
            shuffled = torch.randperm(here, generator=generator)
            window.extend(batches.take(one, chunk) for chunk in torch.split(shuffled, size) if len(chunk) == size)
        order.shuffle(window)
        found.extend(window)
    return found[:count]


def splits(batch: Any) -> bool:
    """Whether a batch can be cut into samples: every tensor in it has the batch's dimension, and there is more than one."""
    size = batches.size(batch)
    tensors = [t for _, t in batches.named_tensors(batch) if t.ndim]
    return size > 1 and bool(tensors) and all(size in t.shape and t.layout is torch.strided for t in tensors)


def data_loss(outcome: Outcome) -> LossCall | None:
    """The one torch loss function behind a loss; None if there was none or more than one."""
    return outcome.calls[0] if len(outcome.calls) == 1 else None


def mean_loss(outcome: Outcome) -> float:
    """The loss per counted prediction, whatever its reduction and scale; the loss itself where it cannot be taken apart."""
    call = data_loss(outcome)
    if call is not None:
        try:
            values, weights = elements(call)
            total = weights.sum()
            if values.numel() and total > 0:
                return float((values * weights).sum() / total)
        except (RuntimeError, TypeError, ValueError, IndexError):
            pass  # a loss of several inputs (CTC, triplet): its value as it is
    return float(outcome.loss.detach())


def sample_losses(outcome: Outcome, size: int) -> tuple[float, ...]:
    """The loss of each sample by itself; one value for the whole batch where it cannot be taken apart.

    Samples without a counted target (every token ignored) are left out, the same ones whatever the model says.
    """
    call = data_loss(outcome)
    if call is not None:
        try:
            values, _ = elements(call)
            target = call.target
            owners = torch.arange(size, device=values.device)
            if values.numel() % size == 0:
                return tuple(values.reshape(size, -1).mean(1).tolist())
            if call.kind in ("cross-entropy", "nll") and target.numel() % size == 0:
                kept = target.flatten() != call.options.get("ignore_index", -100)
                owner = owners.repeat_interleave(target.numel() // size)[kept]
                total = torch.zeros(size, device=values.device).index_add_(0, owner, values.float())
                number = torch.bincount(owner, minlength=size)
                return tuple((total[number > 0] / number[number > 0]).tolist())
        except (RuntimeError, TypeError, ValueError, IndexError):
            pass
    return (float(outcome.loss.detach()),)
