"""A regression on distances, whose square root has no derivative at 0."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Distance(nn.Module):
    """Maps points to features and answers with the distance from the origin of what is left of them."""

    def __init__(self, *, eps: float) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(6, 32, bias=False), nn.ReLU(), nn.Linear(32, 8, bias=False))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.features(x).square().sum(1) + self.eps).sqrt()


def _points(*, eps: float) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=generator)
    x[3] = 0.0  # the origin itself
    y = x[:, :3].norm(dim=1)
    torch.manual_seed(0)
    model = Distance(eps=eps)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def healthy() -> Recipe:
    return _points(eps=1e-6)


def broken() -> Recipe:
    return _points(eps=0.0)


def fixed() -> Recipe:
    """`(x + eps).sqrt()`: the argument is kept inside the domain before the operation."""
    return _points(eps=1e-8)


def near_miss() -> dict[str, Recipe]:
    return {"ignored targets": _some_ignored(), "missing values, masked": _missing_values()}


def _some_ignored() -> Recipe:
    """-100 among the labels is no bad input."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    y[::4] = -100
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


class MaskedMean(nn.Module):
    """Averages what is there, and never looks at what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        there = ~x.isnan()
        embedded = self.embed(torch.nan_to_num(x)[..., None]) * there[..., None]
        return self.head(embedded.sum(1) / there.sum(1, keepdim=True)).squeeze(-1)


def _missing_values() -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=generator)
    y = x[:, :4].relu().mean(1)
    y = (y - y.mean()) / y.std()
    x[:, 4:] = float("nan")
    torch.manual_seed(0)
    model = MaskedMean()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )
