"""A plain classifier whose layers keep the scale of what they are given, or lose it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 64)
        self.second = nn.Linear(64, 64)
        self.third = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            x = layer(x).relu()
        return self.head(x)


def _recipe(model: nn.Module, *, lr: float = 0.1) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator)
    y = (x @ torch.randn(16, 4, generator=generator)).argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def _net(initialise: Callable[[nn.Linear], object]) -> Net:
    torch.manual_seed(0)
    net = Net()
    for layer in (net.first, net.second, net.third):
        initialise(layer)
    return net


def _kaiming(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def _tiny(layer: nn.Linear) -> None:
    nn.init.normal_(layer.weight, std=1e-3)
    nn.init.zeros_(layer.bias)


def healthy() -> Recipe:
    return _recipe(_net(lambda layer: None))


def broken() -> Recipe:
    return _recipe(_net(_tiny))


def fixed() -> Recipe:
    return _recipe(_net(_kaiming))


class Residual(nn.Module):
    """Blocks that add to a stream: the scale grows with depth, and a zero-initialised last layer gives nothing at first."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32)) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 4)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    bottleneck = nn.Sequential(nn.Linear(16, 3), nn.Linear(3, 4))  # linear on purpose: a low-rank classifier
    return {"residual": _recipe(Residual(8), lr=0.01), "bottleneck": _recipe(bottleneck, lr=0.03)}
