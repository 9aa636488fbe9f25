"""A small classifier whose loss is, or is not, connected to its parameters."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _classifier(loss_fn: object) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3)
    )


def healthy() -> Recipe:
    return _classifier(nn.CrossEntropyLoss())


def broken() -> Recipe:
    cross_entropy = nn.CrossEntropyLoss()
    return _classifier(lambda output, target: torch.tensor(cross_entropy(output, target).item()))


def fixed() -> Recipe:
    cross_entropy = nn.CrossEntropyLoss()
    return _classifier(lambda output, target: cross_entropy(output, target))


def near_miss() -> Recipe:
    """A loss that goes through `detach` only for its own scale keeps its gradient."""
    cross_entropy = nn.CrossEntropyLoss(reduction="none")

    def loss_fn(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = cross_entropy(output, target)
        return (losses * (losses.detach() > 0)).mean()

    return _classifier(loss_fn)
