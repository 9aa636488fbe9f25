"""Handwritten digits, and an augmentation in the network that leaves nothing of them: a straight line does better."""

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Shuffled(nn.Module):
    """Exchanges the pixels of every picture in training: `across` all of the picture, or nearby ones only."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.reach:
            return x
        places = torch.arange(x.size(1)) + self.reach * torch.rand(x.shape)
        return x.gather(1, places.argsort(1))


def _recipe(reach: int) -> Recipe:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(Shuffled(reach), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return Recipe(
        model=model,
        train_loader=DataLoader(
            TensorDataset((x - x.mean()) / x.std(), torch.tensor(data.target)), batch_size=32, shuffle=True
        ),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def healthy() -> Recipe:
    return _recipe(0)


def broken() -> Recipe:
    return _recipe(1000)


def fixed() -> Recipe:
    return _recipe(2)


def near_miss() -> dict[str, Recipe]:
    """A network that is slow, and one that a straight line cannot help."""
    table = load_diabetes()
    rows = torch.tensor(table.data, dtype=torch.float32)
    target = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)
    torch.manual_seed(0)
    slow = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1024, 8, generator=generator)
    noise = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return {
        "slow": Recipe(
            model=slow,
            train_loader=DataLoader(
                TensorDataset((rows - rows.mean(0)) / rows.std(0), (target - target.mean()) / target.std()),
                batch_size=32,
                shuffle=True,
            ),
            loss_fn=nn.MSELoss(),
            optimizer=torch.optim.Adam(slow.parameters(), lr=1e-4),
        ),
        "no straight line": Recipe(
            model=noise,
            train_loader=DataLoader(TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long()), batch_size=32, shuffle=True),
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam(noise.parameters(), lr=1e-2),
        ),
    }
