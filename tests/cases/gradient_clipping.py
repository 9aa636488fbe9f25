"""A training step that clips its gradients in the right place, or in a wrong one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from nncheck import Recipe
from tests.loops import loop


def _clipping(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def _clipping_nothing(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    clip_grad_norm_(model.parameters(), 1.0)
    loss.backward()
    optimizer.step()
    return loss


def _clipping_hard(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    return loss


def _unscaled(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any, scaler: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    return loss


def _by_value(model: nn.Module, batch: Any, optimizer: Any, loss_fn: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
    optimizer.step()
    return loss


def healthy() -> Recipe:
    return loop(_clipping)


def broken() -> Recipe:
    return loop(_clipping_nothing)


def fixed() -> Recipe:
    return loop(_clipping)


def near_miss() -> dict[str, Recipe]:
    return {
        "clipped in every step": loop(_clipping_hard),
        "unscaled first": loop(_unscaled),
        "by value": loop(_by_value),
    }
