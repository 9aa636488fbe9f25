"""A network whose layers are trained at different rates: one of them, or none, with some zeros too many."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _recipe(body: float, head: float, *, freeze: bool = False) -> Recipe:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if freeze:
        model[0].requires_grad_(False)
        model[2].requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [{"params": model[:4].parameters(), "lr": body}, {"params": model[4].parameters(), "lr": head}]
    )
    return Recipe(
        model=model,
        train_loader=DataLoader(
            TensorDataset((x - x.mean()) / x.std(), torch.tensor(data.target)), batch_size=64, shuffle=True
        ),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
    )


def healthy() -> Recipe:
    return _recipe(1e-4, 1e-3)


def broken() -> Recipe:
    return _recipe(1e-10, 1e-3)


def fixed() -> Recipe:
    return _recipe(1e-3, 1e-3)


def near_miss() -> dict[str, Recipe]:
    """Rates far apart, a head that starts near zero and first moves by more than its size, and a body frozen as one should."""
    tiny = _recipe(1e-3, 1e-2)
    with torch.no_grad():
        tiny.model[4].weight.mul_(1e-4)
    return {"far apart": _recipe(3e-7, 1e-2), "tiny head": tiny, "frozen": _recipe(1e-10, 1e-3, freeze=True)}
