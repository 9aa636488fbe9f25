"""A regressor that centres its features, by a statistic that no gradient shows."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES = 8


class Centred(nn.Module):
    def __init__(self, over: int) -> None:
        super().__init__()
        self.over = over
        self.hidden, self.head = nn.Linear(FEATURES, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.hidden(x))
        with torch.no_grad():
            middle = h.mean(self.over, keepdim=True)
        return self.head(h - middle).squeeze()


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


def _recipe(model: nn.Module, *, samples: int = 512, drop_last: bool = False) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, generator=generator)) / FEATURES**0.5
    data = TensorDataset(x, y + 0.1 * torch.randn(samples, generator=generator))
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=32, shuffle=True, drop_last=drop_last),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _centred(over: int) -> Recipe:
    torch.manual_seed(0)
    return _recipe(Centred(over))


def healthy() -> Recipe:
    return _centred(-1)


def broken() -> Recipe:
    """The mean of each feature over the batch instead of the mean of each sample over its features."""
    return _centred(0)


def fixed() -> Recipe:
    return _centred(1)


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    return {
        "a last batch of one is dropped": _recipe(Normalised(), samples=513, drop_last=True),
        "a last batch of two is normalised": _recipe(Normalised(), samples=514),
    }
