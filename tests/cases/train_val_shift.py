"""Bright and dark images in training and validation, normalised with the training set's numbers, or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from nncheck import Recipe


def _images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (600,), generator=generator)
    shapes = torch.rand(3, 1, 8, 8, generator=generator)
    return (0.6 * shapes[y] + 0.4 * torch.rand(600, 1, 8, 8, generator=generator)), y


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    """Images moved sideways by chance."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index].roll(int(torch.randint(-1, 2, ())), -1), self.y[index]


def _setup(train: Dataset[tuple[Tensor, ...]], val: Dataset[tuple[Tensor, ...]]) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 3))
    return Recipe(
        model=model,
        train_loader=DataLoader(train, batch_size=32, shuffle=True),
        val_loader=DataLoader(val, batch_size=64),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def _normalised(val_too: bool) -> Recipe:
    x, y = _images()
    mean, std = x[:450].mean(), x[:450].std()
    val = (x[450:] - mean) / std if val_too else x[450:]
    return _setup(TensorDataset((x[:450] - mean) / std, y[:450]), TensorDataset(val, y[450:]))


def healthy() -> Recipe:
    return _normalised(val_too=True)


def broken() -> Recipe:
    return _normalised(val_too=False)


def fixed() -> Recipe:
    return _normalised(val_too=True)


def near_miss() -> dict[str, Recipe]:
    """Augmentation in training only; twenty validation samples, whose mean is off by chance."""
    x, y = _images()
    x = (x - x.mean()) / x.std()
    few, rest = random_split(TensorDataset(x, y), [20, 580], generator=torch.Generator().manual_seed(1))
    return {
        "augmented in training": _setup(Shifted(x[:450], y[:450]), TensorDataset(x[450:], y[450:])),
        "few samples": _setup(rest, few),
    }
