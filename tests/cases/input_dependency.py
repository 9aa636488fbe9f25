"""A small regressor on a table, one half of which a slice may leave out; and sequences with padding."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES, TOKENS, STEPS = 12, 20, 10


class Table(nn.Module):
    def __init__(self, read: int) -> None:
        super().__init__()
        self.read = read
        self.layers = nn.Sequential(nn.Linear(read, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, : self.read]).squeeze(1)


def _recipe(model: nn.Module, loss_fn: nn.Module, *data: Tensor) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*data), batch_size=32, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _table(read: int) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, FEATURES, generator=generator)
    y = x @ torch.randn(FEATURES, generator=generator) / FEATURES**0.5 + 0.1 * torch.randn(512, generator=generator)
    torch.manual_seed(0)
    return _recipe(Table(read), nn.MSELoss(), x, y)


def healthy() -> Recipe:
    return _table(FEATURES)


def broken() -> Recipe:
    return _table(FEATURES // 2)


def fixed() -> Recipe:
    """The slice covers the whole axis."""
    return _table(FEATURES)


class Bag(nn.Module):
    """Averages the tokens of a sentence; its head starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = (
            nn.Embedding(TOKENS, 24, padding_idx=0),
            nn.Linear(24, 32),
            nn.Linear(32, 3),
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids != 0).float()[..., None]
        return self.head(torch.tanh(self.hidden((self.embed(ids) * mask).sum(1) / mask.sum(1))))


class Convolved(nn.Module):
    """Reads pads as blanks, as text convolutions do; the largest answer of all places counts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 24, padding_idx=0)
        self.conv, self.head = nn.Conv1d(24, 32, 3, padding=1), nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(self.embed(ids).transpose(1, 2))).amax(2))


def near_miss() -> dict[str, Recipe]:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (512,), generator=g)
    tables = (torch.randn(3, TOKENS - 1, generator=g) * 1.5).softmax(-1)
    ids = torch.multinomial(tables[y], STEPS, replacement=True, generator=g) + 1
    lengths = torch.randint(4, STEPS + 1, (512, 1), generator=g)
    ids = ids.masked_fill(torch.arange(STEPS) >= lengths, 0)
    torch.manual_seed(0)
    return {
        "zero head, masked mean": _recipe(Bag(), nn.CrossEntropyLoss(), ids, y),
        "convolution over padding": _recipe(Convolved(), nn.CrossEntropyLoss(), ids, y),
    }
