"""Handwritten digits at a rate that trains, and at one that throws the weights away."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _recipe(rate: float, *, hidden: int = 64, adam: bool = False, batch: int = 64, norm: bool = False) -> Recipe:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(64, hidden), *([nn.BatchNorm1d(hidden)] if norm else []), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(hidden, 10))
    made = torch.optim.Adam if adam else torch.optim.SGD
    return Recipe(
        model=model,
        train_loader=DataLoader(
            TensorDataset((x - x.mean()) / x.std(), torch.tensor(data.target)), batch_size=batch, shuffle=True
        ),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=made(model.parameters(), lr=rate),
    )


def healthy() -> Recipe:
    return _recipe(0.1)


def broken() -> Recipe:
    return _recipe(100.0)


def fixed() -> Recipe:
    return _recipe(1.0)


def near_miss() -> dict[str, Recipe]:
    """High rates that train, and a low one that does so slowly."""
    return {
        "a high rate": _recipe(1.0, norm=True),
        "Adam at 0.01": _recipe(0.01, adam=True),
        "Adam at 0.0001": _recipe(1e-4, adam=True),
        "small batches": _recipe(0.05, batch=16),
    }
