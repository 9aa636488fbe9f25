"""Handwritten digits under a weight decay that pulls every weight to zero, or a decay that only looks heavy."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)


def _recipe(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer], *, norm: bool = False, y: Tensor | None = None
) -> Recipe:
    x, labels = _digits()
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    if norm:
        layers.insert(1, nn.BatchNorm1d(64))
    model = nn.Sequential(*layers)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, labels if y is None else y), batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer(model),
    )


def healthy() -> Recipe:
    return _recipe(lambda model: torch.optim.Adam(model.parameters(), lr=1e-3))


def broken() -> Recipe:
    return _recipe(lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1.0))


def fixed() -> Recipe:
    return _recipe(lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.01))


def near_miss() -> dict[str, Recipe]:
    """A heavy decay that is decoupled, one that BatchNorm makes harmless, and a loss that starts where it will end."""
    learned = _recipe(lambda model: torch.optim.Adam(model.parameters(), lr=3e-3))
    for _ in range(15):
        for x, y in learned.train_loader:
            learned.optimizer.zero_grad()
            learned.loss_fn(learned.model(x), y).backward()
            learned.optimizer.step()
    return {
        "decoupled": _recipe(lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)),
        "under BatchNorm": _recipe(
            lambda model: torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.02), norm=True
        ),
        "learned before": Recipe(
            model=learned.model,
            train_loader=learned.train_loader,
            loss_fn=learned.loss_fn,
            optimizer=torch.optim.SGD(learned.model.parameters(), lr=1e-4),
        ),
    }
