"""Two views of a digit pulled together: with a term that holds different digits apart, and without."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(data.target)


def _views(variance: float) -> Recipe:
    x, _ = _digits()
    generator = torch.Generator().manual_seed(0)
    one, other = (x + 0.3 * torch.randn(x.shape, generator=generator) for _ in range(2))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def held_apart(code: Tensor) -> Tensor:
        return F.relu(1 - (code.var(0) + 1e-4).sqrt()).mean()

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        code_1, code_2 = model(batch[0]), model(batch[1])
        return F.mse_loss(code_1, code_2) + variance * (held_apart(code_1) + held_apart(code_2))

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(one, other), batch_size=64, shuffle=True),
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


def healthy() -> Recipe:
    return _views(1.0)


def broken() -> Recipe:
    return _views(0.0)


def fixed() -> Recipe:
    return _views(0.5)


def near_miss() -> dict[str, Recipe]:
    """Random labels, where one answer for all is right at first; and a rate at which the first predictions swing."""
    x, y = _digits()
    mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]

    def plain(labels: Tensor, rate: float, samples: int) -> Recipe:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        return Recipe(
            model=model,
            train_loader=DataLoader(TensorDataset(x[:samples], labels[:samples]), batch_size=64, shuffle=True),
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam(model.parameters(), lr=rate),
        )

    return {"random labels": plain(mixed, 1e-3, 512), "large first steps": plain(y, 1e-2, len(x))}
