"""Small colour images, tables and a regression: numbers of size one, or as they were stored."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes, load_wine
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def photographs(number: int = 512) -> tuple[Tensor, Tensor]:
    """Smooth 8-bit colour images (N, 16, 16, 3) of four kinds: where the bright side is."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (number,), generator=generator)
    ramp = torch.linspace(-1, 1, 16)
    sides = torch.stack(
        [ramp.expand(16, 16), -ramp.expand(16, 16), ramp[:, None].expand(16, 16), -ramp[:, None].expand(16, 16)]
    )
    tint = torch.rand(number, 3, 1, 1, generator=generator)
    noise = F.avg_pool2d(torch.randn(number, 3, 20, 20, generator=generator), 5, stride=1)
    images = 90 + 70 * tint + 40 * sides[kinds][:, None] + 60 * noise
    return images.clamp(0, 255).byte().permute(0, 2, 3, 1), kinds


class Net(nn.Module):
    def __init__(self, *, norm: bool = False, scale: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.second = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale:
            x = (x.float() / 255 - 0.5) / 0.25
        x = F.relu(self.norm(self.first(x)))
        return self.head(F.relu(self.second(x)).mean((2, 3)))


def images(x: Tensor, y: Tensor, *, norm: bool = False, scale: bool = False) -> Recipe:
    torch.manual_seed(0)
    model = Net(norm=norm, scale=scale)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


def table(x: Tensor, y: Tensor, model: nn.Module, loss_fn: nn.Module, *, lr: float = 3e-3) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
    )


def wine() -> tuple[Tensor, Tensor]:
    data = load_wine()
    return torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)


def diabetes() -> tuple[Tensor, Tensor]:
    data = load_diabetes()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0), torch.tensor(data.target, dtype=torch.float32)[:, None]


def _mlp(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def healthy() -> Recipe:
    x, y = photographs()
    x = x.permute(0, 3, 1, 2).float() / 255
    return images((x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True), y)


def broken() -> Recipe:
    x, y = photographs()
    return images(x.permute(0, 3, 1, 2).float(), y)


def fixed() -> Recipe:
    x, y = photographs()
    x = x.permute(0, 3, 1, 2).float() / 255
    return images((x - x.mean()) / x.std(), y)


class Kelvin(nn.Module):
    """Answers in the unit of its targets: a standardised prediction, scaled back inside."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.body = _mlp(10, 1)
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.std + self.mean


class Relative(nn.Module):
    """Mean squared error in units of the targets' deviation."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output / self.std, target / self.std)


def near_miss() -> dict[str, Recipe]:
    """8-bit values that the network scales itself, or that a BatchNorm takes up; unscaled columns behind a BatchNorm; flags and
    rare counts beside standardised columns; a network that scales its answers."""
    raw, y = photographs()
    flat, kinds = wine()
    x, target = diabetes()
    generator = torch.Generator().manual_seed(0)
    flags = (torch.rand(len(x), 6, generator=generator) < 0.02).float()
    torch.manual_seed(0)
    normed = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    torch.manual_seed(0)
    mean, std = float(target.mean()), float(target.std())
    return {
        "scaled inside": images(raw.permute(0, 3, 1, 2), y, scale=True),
        "zero to one": images(raw.permute(0, 3, 1, 2).float() / 255, y),
        "columns behind a BatchNorm": table(flat, kinds, normed, nn.CrossEntropyLoss()),
        "flags and rare counts": table(torch.cat([x, flags], 1), (target - mean) / std, _mlp(16, 1), nn.MSELoss()),
        "answers in their unit": table(x, target, Kelvin(mean, std), Relative(std)),
    }
