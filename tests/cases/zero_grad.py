"""A training step that clears its gradients, or does not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nncheck import Recipe
from tests.loops import classifier, loop


def _usual(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def _never_cleared(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def _cleared_at_the_end(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> float:
    x, y = batch
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.item()


def _cleared_by_the_model(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _every_fourth(model: nn.Module, batch: Any, batch_idx: int, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    loss = loss_fn(model(x), y) / 4
    loss.backward()
    if (batch_idx + 1) % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
    return loss * 4


def _by_closure(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure)


def _sharpness_aware(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    """SAM: a gradient at a point uphill, then a step from where it was."""
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    uphill = [0.01 * torch.sign(p.grad) for p in model.parameters()]
    with torch.no_grad():
        for p, e in zip(model.parameters(), uphill, strict=True):
            p.add_(e)
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    with torch.no_grad():
        for p, e in zip(model.parameters(), uphill, strict=True):
            p.sub_(e)
    optimizer.step()
    return loss


def healthy() -> Recipe:
    return loop(_usual)


def broken() -> Recipe:
    return loop(_never_cleared)


def fixed() -> Recipe:
    return loop(_usual)


def near_miss() -> dict[str, Recipe]:
    steps: dict[str, Callable[..., Any]] = {
        "cleared at the end": _cleared_at_the_end,
        "cleared by the model, before the backward pass": _cleared_by_the_model,
        "every fourth call": _every_fourth,
        "sharpness-aware": _sharpness_aware,
    }
    model = classifier()
    newton = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    return {name: loop(step) for name, step in steps.items()} | {
        "by a closure": loop(_by_closure, model=model, optimizer=newton)
    }
