"""One data set and two lists of indices: for training and for validation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from nncheck import Recipe


def _vectors(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1000, 8, generator=generator)
    y = (x @ torch.randn(8, 3, generator=torch.Generator().manual_seed(9))).argmax(1)
    return x, y


def _setup(
    train: Dataset[tuple[Tensor, ...]], val: Dataset[tuple[Tensor, ...]], width: int = 8, outputs: int = 3
) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, outputs))
    return Recipe(
        model=model,
        train_loader=DataLoader(train, batch_size=32, shuffle=True),
        val_loader=DataLoader(val, batch_size=32),
        loss_fn=nn.CrossEntropyLoss() if outputs > 1 else _squared,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(output.squeeze(1), target)


def _split(start: int) -> Recipe:
    data = TensorDataset(*_vectors())
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(2)).tolist()
    return _setup(Subset(data, order[:800]), Subset(data, order[start:]))


def healthy() -> Recipe:
    return _split(800)


def broken() -> Recipe:
    return _split(750)


def fixed() -> Recipe:
    return _split(800)


def _series() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(1020)
    series = torch.sin(time * 0.7) + torch.sin(time * 0.31) + 0.3 * torch.randn(1020, generator=generator)
    windows = (series / series.std()).unfold(0, 12, 1)
    return windows[:, :-1].contiguous(), windows[:, -1].contiguous()


def near_miss() -> dict[str, Recipe]:
    """Codes that meet by chance on both sides; a series cut in time, whose windows overlap at the cut."""
    codes = torch.randint(3, (1000, 5), generator=torch.Generator().manual_seed(1))
    x, y = (codes.float() - 1) / 0.82, (codes.sum(1) - 4).clamp(0, 2)
    windows, targets = _series()
    return {
        "codes": _setup(TensorDataset(x[:800], y[:800]), TensorDataset(x[800:], y[800:]), width=5),
        "cut in time": _setup(
            TensorDataset(windows[:800], targets[:800]),
            TensorDataset(windows[800:], targets[800:]),
            width=11,
            outputs=1,
        ),
    }
