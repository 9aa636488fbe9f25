"""A classifier with dropout between its layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES, HIDDEN, CLASSES, SAMPLES = 12, 48, 4, 1024


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, HIDDEN)
        self.second = nn.Linear(HIDDEN, CLASSES)

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.2, training=self.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(torch.relu(self.first(x))))


class AlwaysDropping(Classifier):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.2)


class Asking(Classifier):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, p=0.2, training=self.training)


class MonteCarlo(Classifier):
    """Monte-Carlo dropout: predictions are averaged over passes."""

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.2, training=True)


class Sampled(nn.Module):
    """The latent is drawn from what the encoder says, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(FEATURES, HIDDEN)
        self.mean, self.spread = nn.Linear(HIDDEN, 8), nn.Linear(HIDDEN, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.body(x))
        mean, spread = self.mean(h), F.softplus(self.spread(h) - 3)
        return self.head(mean + torch.randn_like(mean) * spread)


class NoisyInTraining(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.05 * torch.randn_like(x)
        return super().forward(x)


class Counting(Classifier):
    """Counts its passes, and keeps the last hidden values to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.last: Tensor | None = None

    def drop(self, h: Tensor) -> Tensor:
        self.passes += 1
        self.last = h.detach()
        return h


class FrozenNorm(nn.Module):
    """A backbone whose statistics are held by the model's own train()."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.train()

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self.backbone[1].eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def _recipe(model: nn.Module) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(1)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    torch.manual_seed(0)
    return _recipe(Classifier())


def broken() -> Recipe:
    torch.manual_seed(0)
    return _recipe(AlwaysDropping())


def fixed() -> Recipe:
    torch.manual_seed(0)
    return _recipe(Asking())


def near_miss() -> dict[str, Recipe]:
    torch.manual_seed(0)
    return {
        "Monte-Carlo dropout": _recipe(MonteCarlo()),
        "a latent that is drawn": _recipe(Sampled()),
        "noise in training only": _recipe(NoisyInTraining()),
        "a counter and a kept tensor": _recipe(Counting()),
        "a train() that keeps BatchNorm in eval mode": _recipe(FrozenNorm()),
    }
