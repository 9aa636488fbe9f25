"""A training step that accumulates the gradients of four batches."""

from typing import Any

from torch import Tensor, nn

from nncheck import Recipe
from tests.loops import loop

EVERY = 4


def _accumulating(model: nn.Module, batch: Any, batch_idx: int, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y)
    (loss / EVERY).backward()
    if (batch_idx + 1) % EVERY == 0:
        optimizer.step()
        optimizer.zero_grad()
    return loss


def _adding_up(model: nn.Module, batch: Any, batch_idx: int, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y)
    loss.backward()
    if (batch_idx + 1) % EVERY == 0:
        optimizer.step()
        optimizer.zero_grad()
    return loss


def _divided_afterwards(model: nn.Module, batch: Any, batch_idx: int, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y)
    loss.backward()
    if (batch_idx + 1) % EVERY == 0:
        for p in model.parameters():
            p.grad /= EVERY
        optimizer.step()
        optimizer.zero_grad()
    return loss


def _in_parts(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    """Each half of a batch by itself, weighted by its share."""
    x, y = batch
    optimizer.zero_grad()
    total = 0.0
    for part, target in zip(x.chunk(2), y.chunk(2), strict=True):
        loss = loss_fn(model(part), target) * len(part) / len(x)
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return total


def _two_losses(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    """Clean and disturbed inputs, one after the other: two losses of the whole batch."""
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    loss_fn(model(x * 1.05), y).backward()
    optimizer.step()
    return loss


def healthy() -> Recipe:
    return loop(_accumulating)


def broken() -> Recipe:
    return loop(_adding_up)


def fixed() -> Recipe:
    return loop(_accumulating)


def near_miss() -> dict[str, Recipe]:
    return {
        "divided before the step": loop(_divided_afterwards),
        "a batch in parts": loop(_in_parts),
        "two losses of one batch": loop(_two_losses),
    }
