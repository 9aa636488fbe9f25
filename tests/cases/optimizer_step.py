"""A training step that steps, or leaves a part of it out."""

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


def _never_stepping(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    return loss


def _scaled(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any, scaler: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_fn(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss


def _by_hand(model: nn.Module, batch: Any, loss_fn: Any) -> Tensor:
    """Gradient descent without an optimizer."""
    x, y = batch
    loss = loss_fn(model(x), y)
    for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
        p.data -= 0.1 * g
    return loss.detach()


def _with_a_schedule(model: nn.Module, batch: Any, optimizer: Any, scheduler: Any, loss_fn: Any) -> Tensor:
    loss = _usual(model, batch, optimizer, loss_fn)
    scheduler.step()
    return loss


def healthy() -> Recipe:
    return loop(_usual)


def broken() -> Recipe:
    return loop(_never_stepping)


def fixed() -> Recipe:
    return loop(_usual)


def near_miss() -> dict[str, Recipe]:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
    return {
        "through a gradient scaler": loop(_scaled),
        "by hand": loop(_by_hand),
        "a warm-up from zero": loop(
            _with_a_schedule, model=model, optimizer=optimizer, scheduler=schedule, scheduler_interval="step"
        ),
    }
