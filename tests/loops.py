"""A small classifier with a `train_step` to be checked: the parts that cases of the training loop have in common."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES, CLASSES, SAMPLES = 12, 4, 1024


def classifier() -> nn.Module:
    """Two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 48), nn.ReLU(), nn.Linear(48, CLASSES))


def batches(batch_size: int = 64) -> DataLoader[tuple[Tensor, ...]]:
    """Which of four directions a sample points to."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)


def loop(
    step: Callable[..., Any],
    *,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **parts: Any,
) -> Recipe:
    """The set-up whose training step is `step`."""
    model = classifier() if model is None else model
    return Recipe(
        model=model,
        train_loader=batches(),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        train_step=step,
        **parts,
    )
