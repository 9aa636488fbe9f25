"""A regression whose last function cannot give the targets."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

FEATURES = 8


def _data(change: Callable[[Tensor], Tensor]) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, FEATURES, generator=generator)
    y = x @ torch.randn(FEATURES, 1, generator=generator) / FEATURES**0.5
    y = y + 0.1 * torch.randn(512, 1, generator=generator)
    return DataLoader(TensorDataset(x, change((y - y.mean()) / y.std())), batch_size=32, shuffle=True)


def _recipe(
    *last: nn.Module,
    change: Callable[[Tensor], Tensor] = lambda y: y,
    loss_fn: nn.Module | None = None,
    outputs: int = 1,
) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, outputs), *last)
    return Recipe(
        model=model,
        train_loader=_data(change),
        loss_fn=loss_fn or nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    return _recipe()


def broken() -> Recipe:
    """Standardised targets go beyond 1 on both sides."""
    return _recipe(nn.Tanh())


def fixed() -> Recipe:
    """The last layer is linear again."""
    return _recipe()


class Softcap(nn.Module):
    """Logits kept within 30, as some language models do: the loss does not feel it."""

    def forward(self, x: Tensor) -> Tensor:
        return 30 * torch.tanh(x / 30)


def near_miss() -> dict[str, Recipe]:
    def classes(y: Tensor) -> Tensor:
        return (y.squeeze(1) > 0).long() + (y.squeeze(1) > 1).long()

    return {
        "tanh on targets within -1 and 1": _recipe(nn.Tanh(), change=lambda y: y / (y.abs().max() * 1.2)),
        "softplus on positive targets": _recipe(nn.Softplus(), change=lambda y: (y * 0.5).exp()),
        "sigmoid on targets between 0 and 1": _recipe(nn.Sigmoid(), change=lambda y: (y * 1.5).sigmoid()),
        "softcapped logits": _recipe(Softcap(), change=classes, loss_fn=nn.CrossEntropyLoss(), outputs=3),
    }
