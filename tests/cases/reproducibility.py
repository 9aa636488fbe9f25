"""A small classifier whose data set adds noise to each item: how the noise is drawn decides whether a run can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nncheck import Recipe

ITEMS = 512


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Vectors of three classes; `noise(index)` is added to each as it is read."""

    def __init__(self, noise: Callable[[int], Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(ITEMS, 6, generator=generator)
        self.y = (self.x @ torch.randn(6, 3, generator=generator)).argmax(1)
        self.noise = noise

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index] + 0.1 * self.noise(index), self.y[index]


class Made(Dataset[tuple[Tensor, Tensor]]):
    """Nothing is stored: the seed of an item is its index, which makes all of it."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        label = index * 7 % 3
        x = torch.randn(6, generator=torch.Generator().manual_seed(index))
        x[label] += 2.0
        return x, torch.tensor(label)


def _setup(data: Any, net: nn.Module | None = None, workers: int = 0) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), net or nn.Identity(), nn.Linear(32, 3))
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=32, shuffle=True, num_workers=workers),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _unseeded(_: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng().normal(size=6).astype("float32"))


def healthy() -> Recipe:
    return _setup(Noisy(lambda _: torch.randn(6)))


def broken() -> Recipe:
    return _setup(Noisy(_unseeded))


def fixed() -> Recipe:
    generator = np.random.default_rng(0)
    return _setup(Noisy(lambda _: torch.from_numpy(generator.normal(size=6).astype("float32"))))


def near_miss() -> dict[str, Recipe]:
    """No noise at all; items that a seed makes from nothing; dropout; NumPy's global generator."""
    return {
        "no noise": _setup(Noisy(lambda _: torch.zeros(6))),
        "made from their index": _setup(Made()),
        "dropout": _setup(Noisy(lambda _: torch.zeros(6)), net=nn.Dropout(0.2)),
        "NumPy's global generator": _setup(Noisy(lambda _: torch.from_numpy(np.random.randn(6).astype("float32")))),
    }
