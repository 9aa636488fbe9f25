"""Handwritten digits, read by their index or always the same one."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nncheck import Recipe


class Digits(Dataset[tuple[Tensor, int]]):
    """8 x 8 pictures and what they show."""

    def __init__(self, pick: Callable[[int], int], transform: Callable[[Tensor], Tensor] | None = None) -> None:
        data = load_digits()
        self.images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
        self.labels = [int(label) for label in data.target]
        self.pick = pick
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[self.pick(index)]
        return (self.transform(image) if self.transform else image), self.labels[index]


def recipe(data: Digits) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


def standardise(image: Tensor) -> Tensor:
    return (image - 0.3) / 0.38


def healthy() -> Recipe:
    return recipe(Digits(lambda index: index, standardise))


def broken() -> Recipe:
    return recipe(Digits(lambda index: 0, standardise))


def fixed() -> Recipe:
    return recipe(Digits(lambda index: index, standardise))


class Positions(nn.Module):
    """Adds an embedding of the positions, which are the same for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(8, 32)
        self.place = nn.Embedding(8, 32)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(8, device=x.device).expand(len(x), 8)
        return self.head(torch.relu(self.rows(x.squeeze(1)) + self.place(steps)).flatten(1))


def near_miss() -> Recipe:
    """Part of what enters the network is the same for every sample, by intent."""
    torch.manual_seed(0)
    model = Positions()
    return Recipe(
        model=model,
        train_loader=DataLoader(Digits(lambda index: index, standardise), batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )
