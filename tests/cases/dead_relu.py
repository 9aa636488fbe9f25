"""A plain ReLU classifier whose units are alive, or pushed below zero for good."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Net(nn.Module):
    def __init__(self, prepare: Callable[[nn.Linear], object]) -> None:
        super().__init__()
        self.first = nn.Linear(16, 64)
        self.second = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)
        prepare(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))))


def _recipe(model: nn.Module, *, lr: float = 1e-3) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator)
    y = (x @ torch.randn(16, 4, generator=generator)).argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def _net(prepare: Callable[[nn.Linear], object]) -> Net:
    torch.manual_seed(0)
    return Net(prepare)


def healthy() -> Recipe:
    return _recipe(_net(lambda layer: None))


def broken() -> Recipe:
    return _recipe(_net(lambda layer: nn.init.constant_(layer.bias, -5.0)))


def fixed() -> Recipe:
    def initialise(layer: nn.Linear) -> None:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)

    return _recipe(_net(initialise))


class Gated(nn.Module):
    """A squared ReLU and a ReLU gate: half of what passes is zero, and meant to be."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 64)
        self.gate = nn.Linear(16, 64)
        self.middle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x) * F.relu(self.gate(x))
        return self.head(F.relu(self.middle(hidden)).square())


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    gated = Gated()
    layers: list[nn.Module] = [nn.Linear(16, 64), nn.ReLU()]
    for _ in range(5):  # PyTorch's default initialisation leaves a third of the last units silent, and it trains
        layers += [nn.Linear(64, 64), nn.ReLU()]
    deep = nn.Sequential(*layers, nn.Linear(64, 4))
    return {"gated": _recipe(gated), "deep": _recipe(deep)}
