"""A small regression whose predictions are (N, 1), with targets (N,) or (N, 1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Tagger(nn.Module):
    """One of five tags for each of five steps, from a convolution over time: (batch, tags, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.body = nn.Conv1d(16, 48, 3, padding=1)
        self.head = nn.Conv1d(48, 5, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.embed(tokens).transpose(1, 2)).relu())


def _regression(loss_fn: Callable[[Tensor, Tensor], Tensor], outputs: int = 1) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=generator)
    y = (x @ torch.randn(6, generator=generator)) / 2
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, outputs))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3)
    )


def tagging(loss_fn: Callable[[Tensor, Tensor], Tensor]) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 11, (512, 5), generator=generator)
    torch.manual_seed(0)
    model = Tagger()
    loader = DataLoader(TensorDataset(x, x % 5), batch_size=64, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3)
    )


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).mean()


def _quantiles(output: Tensor, target: Tensor) -> Tensor:
    levels = torch.tensor([0.1, 0.5, 0.9])
    error = target.unsqueeze(1) - output
    return torch.maximum(levels * error, (levels - 1) * error).mean()


def healthy() -> Recipe:
    return _regression(lambda output, target: _squared(output.flatten(), target))


def broken() -> Recipe:
    return _regression(lambda output, target: _squared(output, target))


def fixed() -> Recipe:
    return _regression(lambda output, target: _squared(output.squeeze(1), target))


def near_miss() -> dict[str, Recipe]:
    """Three quantiles against one target each broadcast on purpose; tags in dimension 1, five of them, at five steps."""
    return {
        "quantiles": _regression(_quantiles, outputs=3),
        "tags": tagging(nn.CrossEntropyLoss()),
        "tags, flattened": tagging(
            lambda z, y: nn.functional.cross_entropy(z.movedim(1, -1).reshape(-1, 5), y.flatten())
        ),
    }
