"""A small classifier with and without a softmax of its own before cross-entropy."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Classifier(nn.Module):
    def __init__(self, last: nn.Module | None = None, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
        self.head = nn.Linear(64, classes)
        self.last = last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.head(self.body(x)))


def _recipe(model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], target: str = "labels") -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    scores = x @ torch.randn(8, 4, generator=generator)
    y = {"labels": scores.argmax(1), "many": (scores > 0).float()}[target]
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3)
    )


def _classifier(last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return Classifier(last)


def healthy() -> Recipe:
    return _recipe(_classifier(), nn.CrossEntropyLoss())


def broken() -> Recipe:
    return _recipe(_classifier(nn.Softmax(dim=1)), nn.CrossEntropyLoss())


def fixed() -> Recipe:
    """Probabilities only where they are wanted; the loss is given the raw outputs."""
    return _recipe(_classifier(), nn.CrossEntropyLoss())


def near_miss() -> dict[str, Recipe]:
    """log_softmax before cross-entropy, NLL on the log of softmax, BCE after sigmoid."""
    return {
        "log_softmax": _recipe(_classifier(nn.LogSoftmax(dim=1)), nn.CrossEntropyLoss()),
        "log of softmax": _recipe(_classifier(nn.Softmax(dim=1)), lambda p, y: F.nll_loss(torch.log(p + 1e-9), y)),
        "sigmoid and BCE": _recipe(_classifier(nn.Sigmoid()), nn.BCELoss(), "many"),
    }
