"""A classifier that centres its hidden values by a running mean."""

import math

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES, HIDDEN, CLASSES, SAMPLES = 12, 48, 4, 1024


class Centred(nn.Module):
    """`mean` follows the hidden values in training; the subclasses differ in where it is kept."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, HIDDEN)
        self.second = nn.Linear(HIDDEN, CLASSES)
        self.keep(torch.zeros(HIDDEN))

    def keep(self, mean: Tensor) -> None:
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return self.second(h - self.mean)


class Forgetting(Centred):
    def keep(self, mean: Tensor) -> None:
        self.mean = mean


class Registering(Centred):
    def keep(self, mean: Tensor) -> None:
        self.register_buffer("mean", torch.zeros_like(mean))


class Counting(nn.Module):
    """A table that is computed the same way every time, a counter, and the last hidden values: none is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, HIDDEN)
        self.second = nn.Linear(HIDDEN, CLASSES)
        self.table = torch.sin(torch.arange(HIDDEN) / math.pi)
        self.passes = 0
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        h = torch.relu(self.first(x)) + self.table
        self.last = h.detach()
        return self.second(h)


def _recipe(model: nn.Module, *, optimizer: torch.optim.Optimizer | None = None) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    torch.manual_seed(0)
    return _recipe(Centred())


def broken() -> Recipe:
    torch.manual_seed(0)
    return _recipe(Forgetting())


def fixed() -> Recipe:
    torch.manual_seed(0)
    return _recipe(Registering())


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    counting, scheduled = Counting(), Counting()
    optimizer = torch.optim.SGD(scheduled.parameters(), lr=0.1, momentum=0.9)
    recipe = _recipe(scheduled, optimizer=optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8))
    return {
        "a constant table, a counter, a kept tensor": _recipe(counting),
        "a warm-up by a lambda": Recipe(
            model=scheduled,
            train_loader=recipe.train_loader,
            loss_fn=recipe.loss_fn,
            optimizer=optimizer,
            scheduler=schedule,
            scheduler_interval="step",
        ),
    }
