"""Handwritten digits whose validation set numbers its classes as the training set does, or in an order of its own."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

TRAIN_NAMES = [str(digit) for digit in range(10)]
VALIDATION_NAMES = ["3", "7", "0", "9", "1", "5", "8", "2", "6", "4"]


def _numbers(labels: Tensor, names: list[str]) -> Tensor:
    return torch.tensor([names.index(str(int(label))) for label in labels])


def _recipe(names: list[str], *, train: int = 1300, noise: float = 0.0, random: bool = False) -> Recipe:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(data.data, dtype=torch.float32)[order]
    x, y = (x - x.mean()) / x.std(), torch.tensor(data.target)[order]
    if random:
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    held_back = x[1300:] + noise * torch.randn(x[1300:].shape, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return Recipe(
        model=model,
        train_loader=DataLoader(
            TensorDataset(x[:train], _numbers(y[:train], TRAIN_NAMES)), batch_size=64, shuffle=True
        ),
        val_loader=DataLoader(TensorDataset(held_back, _numbers(y[1300:], names)), batch_size=64),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    return _recipe(TRAIN_NAMES)


def broken() -> Recipe:
    return _recipe(VALIDATION_NAMES)


def fixed() -> Recipe:
    return _recipe(TRAIN_NAMES)


def near_miss() -> dict[str, Recipe]:
    """Harder validation samples, and a small set that is learned by heart."""
    return {
        "noisy validation": _recipe(TRAIN_NAMES, noise=0.5),
        "learned by heart": _recipe(TRAIN_NAMES, train=128, random=True),
    }
