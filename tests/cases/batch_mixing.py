"""A small sequence classifier whose recurrent layer wants time first."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

STEPS, FEATURES, CLASSES = 6, 5, 3


class Tagger(nn.Module):
    def __init__(self, time_first: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.time_first = time_first
        self.recurrent = nn.GRU(FEATURES, 24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.recurrent(self.time_first(x))  # (time, batch, features)
        return self.head(h.mean(0))


def _data() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, STEPS, FEATURES, generator=generator)
    y = (x.mean(1) @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)


def _recipe(model: nn.Module) -> Recipe:
    return Recipe(
        model=model,
        train_loader=_data(),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _tagger(time_first: Callable[[Tensor], Tensor]) -> Recipe:
    torch.manual_seed(0)
    return _recipe(Tagger(time_first))


def healthy() -> Recipe:
    return _tagger(lambda x: x.transpose(0, 1))


def broken() -> Recipe:
    return _tagger(lambda x: x.reshape(x.shape[1], x.shape[0], x.shape[2]))


def fixed() -> Recipe:
    return _tagger(lambda x: x.permute(1, 0, 2))


class Normalised(nn.Module):
    """BatchNorm couples samples in training, which is its job."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(FEATURES, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x.transpose(1, 2)))


class Shifted(nn.Module):
    """Attention scores shifted by their largest value of all: softmax does not see it, but for rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(FEATURES, 48)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 4
        return self.head((torch.softmax(scores - scores.max(), -1) @ v).mean(1))


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    return {"batchnorm": _recipe(Normalised()), "softmax shifted by a common maximum": _recipe(Shifted())}
