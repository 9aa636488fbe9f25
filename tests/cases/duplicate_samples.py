"""Vectors of three unequal classes, drawn by weights that are to make the classes even."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset, WeightedRandomSampler

from nncheck import Recipe


def _vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 8, generator=generator)
    y = torch.bucketize(x @ torch.randn(8, generator=generator) / 8**0.5, torch.tensor([-0.2, 1.0]))
    return x, y


def _setup(x: Tensor, y: Tensor, sampler: Sampler[int] | None = None) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(x.size(1), 32), nn.ReLU(), nn.Linear(32, 3))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=sampler is None, sampler=sampler),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _weighted(each_sample: bool) -> Recipe:
    x, y = _vectors()
    weights = 1 / y.bincount().float()
    return _setup(x, y, WeightedRandomSampler((weights[y] if each_sample else weights).tolist(), len(y)))


def healthy() -> Recipe:
    return _weighted(each_sample=True)


def broken() -> Recipe:
    return _weighted(each_sample=False)


def fixed() -> Recipe:
    return _weighted(each_sample=True)


def near_miss() -> dict[str, Recipe]:
    """Codes that meet by chance; three per cent of copies; a rare class that was copied until it is not."""
    x, y = _vectors()
    codes = torch.randint(4, (900, 4), generator=torch.Generator().manual_seed(1)).float()
    rare = (y == 2).nonzero()[:, 0].repeat(3)
    return {
        "codes": _setup((codes - 1.5) / 1.12, codes[:, :2].sum(1).div(2.1).long().clamp_max(2)),
        "a few copies": _setup(torch.cat([x, x[:27]]), torch.cat([y, y[:27]])),
        "a rare class copied": _setup(torch.cat([x, x[rare]]), torch.cat([y, y[rare]])),
    }
