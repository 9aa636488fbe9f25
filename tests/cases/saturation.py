"""A tanh classifier on pixels, its weights drawn narrowly or widely."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _recipe(model: nn.Module, x: Tensor, y: Tensor) -> Recipe:
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def _pixels() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (512, 36), generator=generator).float()
    y = ((x - x.mean(0)) @ torch.randn(36, 4, generator=generator)).argmax(1)
    return x, y


def _tanh_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(36, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))


def _drawn(draw: Callable[[Tensor], Tensor]) -> Recipe:
    x, y = _pixels()
    model = _tanh_net()
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and not name.startswith("4."):
            draw(weight)
    return _recipe(model, (x - 127.5) / 74.0, y)


def healthy() -> Recipe:
    return _drawn(lambda weight: weight)


def broken() -> Recipe:
    return _drawn(nn.init.normal_)


def fixed() -> Recipe:
    return _drawn(nn.init.xavier_uniform_)


class GatedCell(nn.Module):
    """A gated recurrent cell written by hand, its update gate nearly shut at first: gates are not layers."""

    def __init__(self) -> None:
        super().__init__()
        self.update = nn.Linear(6 + 32, 32)
        self.new = nn.Linear(6 + 32, 32)
        self.head = nn.Linear(32, 4)
        nn.init.constant_(self.update.bias, -5.0)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 32)
        for step in x.unflatten(1, (6, 6)).unbind(1):
            given = torch.cat([step, state], 1)
            update = torch.sigmoid(self.update(given) + 4.0 * (step.sum(1, keepdim=True) > 0))
            state = (1 - update) * state + update * torch.tanh(self.new(given))
        return self.head(state)


class Attention(nn.Module):
    """Scaled attention written by hand, over six tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 32)
        self.query_key_value = nn.Linear(32, 96)
        self.head = nn.Linear(6 * 32, 4)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query_key_value(self.embed(x.unflatten(1, (6, 6)))).chunk(3, -1)
        weights = torch.softmax(query @ key.transpose(-2, -1) / 32**0.5, -1)
        return self.head((weights @ value).flatten(1))


def near_miss() -> dict[str, Recipe]:
    x, y = _pixels()
    x = (x - 127.5) / 74.0
    torch.manual_seed(0)
    return {"attention": _recipe(Attention(), x, y), "gated": _recipe(GatedCell(), x, y)}
