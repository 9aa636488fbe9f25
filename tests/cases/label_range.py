"""A small classifier whose labels are 0 to C-1, or counted from 1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def data(samples: int = 640, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 12, generator=generator)
    return x, (x @ torch.randn(12, classes, generator=generator)).argmax(1)


def recipe(x: Tensor, y: Tensor, outputs: int, loss_fn: nn.Module | None = None) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, outputs))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    x, y = data()
    return recipe(x, y, 4)


def broken() -> Recipe:
    x, y = data()
    return recipe(x, y, 4, nn.CrossEntropyLoss(ignore_index=0))


def fixed() -> Recipe:
    x, y = data()
    return recipe(x, y, 4, nn.CrossEntropyLoss(ignore_index=-100))


class Tagger(nn.Module):
    """A label for each of a sequence's tokens; sequences end in padding, whose tag 0 is ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16, padding_idx=0)
        self.body = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.embed(tokens))[0]).transpose(1, 2)


def padded() -> Recipe:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (320, 12), generator=generator)
    lengths = torch.randint(4, 13, (320,), generator=generator)
    tokens[torch.arange(12) >= lengths[:, None]] = 0
    tags = torch.where(tokens > 0, tokens % 4 + 1, 0)
    torch.manual_seed(0)
    model = Tagger()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(tokens, tags), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(ignore_index=0),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def near_miss() -> dict[str, Recipe]:
    """Padding that is ignored; one class that is not in the set; soft targets; several labels under BCE."""
    x, y = data()
    generator = torch.Generator().manual_seed(1)
    five = (x @ torch.randn(12, 5, generator=generator)).argmax(1)
    shares = F.one_hot(y, 4).float() * 0.8 + 0.05
    several = (x @ torch.randn(12, 5, generator=generator) > 0).float()
    return {
        "ignored padding": padded(),
        "a class that is not in the set": recipe(x, five, 6),
        "soft targets": recipe(x, shares, 4),
        "several labels": recipe(x, several, 5, nn.BCEWithLogitsLoss()),
    }
