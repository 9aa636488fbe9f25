"""Handwritten digits whose labels belong, or do not belong, to their pictures."""

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _recipe(x: Tensor, y: Tensor, *, shuffle: bool = True) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=shuffle),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)


def healthy() -> Recipe:
    x, y = _digits()
    return _recipe(x, y)


def broken() -> Recipe:
    x, y = _digits()
    return _recipe(x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))])


def fixed() -> Recipe:
    x, y = _digits()
    together = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return _recipe(x[together], y[together])


def near_miss() -> dict[str, Recipe]:
    """Mostly wrong labels, a small noisy table, and few samples of pure noise: no certainty, no accusation."""
    x, y = _digits()
    generator = torch.Generator().manual_seed(1)
    noisy = torch.where(
        torch.rand(len(y), generator=generator) < 0.6, y[torch.randperm(len(y), generator=generator)], y
    )
    table = load_diabetes()
    rows = torch.tensor(table.data, dtype=torch.float32)
    rows = (rows - rows.mean(0)) / rows.std(0)
    target = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return {
        "noisy labels": _recipe(x, noisy),
        "small table": Recipe(
            model=network,
            train_loader=DataLoader(
                TensorDataset(rows, (target - target.mean()) / target.std()), batch_size=32, shuffle=True
            ),
            loss_fn=nn.MSELoss(),
            optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        ),
        "few random samples": _recipe(
            torch.randn(256, 64, generator=generator), torch.randint(10, (256,), generator=generator)
        ),
    }
