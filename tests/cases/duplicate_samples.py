"""Vectors of three unequal classes, in two parts, of which one is joined on twice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, TensorDataset, WeightedRandomSampler

from nncheck import Recipe


def _vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 8, generator=generator)
    y = torch.bucketize(x @ torch.randn(8, generator=generator) / 8**0.5, torch.tensor([-0.2, 1.0]))
    return x, y


def _setup(data: Dataset[tuple[Tensor, ...]], width: int = 8, sampler: Sampler[int] | None = None) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 3))
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=32, shuffle=sampler is None, sampler=sampler),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _joined(second_again: bool) -> Recipe:
    x, y = _vectors()
    first, second = TensorDataset(x[:500], y[:500]), TensorDataset(x[500:], y[500:])
    return _setup(ConcatDataset([first, second, second] if second_again else [first, second]))


def healthy() -> Recipe:
    return _joined(second_again=False)


def broken() -> Recipe:
    return _joined(second_again=True)


def fixed() -> Recipe:
    return _joined(second_again=False)


def near_miss() -> dict[str, Recipe]:
    """Codes that meet by chance; three per cent of copies; a rare class that was copied until it is not; draws by weights."""
    x, y = _vectors()
    codes = torch.randint(4, (900, 4), generator=torch.Generator().manual_seed(1)).float()
    rare = (y == 2).nonzero()[:, 0].repeat(3)
    weights = (1 / y.bincount().float())[y].tolist()
    return {
        "codes": _setup(TensorDataset((codes - 1.5) / 1.12, codes[:, :2].sum(1).div(2.1).long().clamp_max(2)), width=4),
        "a few copies": _setup(TensorDataset(torch.cat([x, x[:27]]), torch.cat([y, y[:27]]))),
        "a rare class copied": _setup(TensorDataset(torch.cat([x, x[rare]]), torch.cat([y, y[rare]]))),
        "drawn by weights": _setup(TensorDataset(x, y), sampler=WeightedRandomSampler(weights, len(y))),
    }
