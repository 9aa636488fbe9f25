"""A small classifier with weights of torch's size, or a hundred times larger at the output."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Classifier(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 64), nn.ReLU())
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def data(samples: int = 640) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 10, generator=generator)
    return x, (x @ torch.randn(10, 5, generator=generator)).argmax(1)


def recipe(
    change: Callable[[Classifier], None] | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    classes: int = 5,
    target: Callable[[Tensor], Tensor] | None = None,
) -> Recipe:
    torch.manual_seed(0)
    model = Classifier(classes)
    if change is not None:
        change(model)
    x, y = data()
    loader = DataLoader(TensorDataset(x, target(y) if target else y), batch_size=64, shuffle=True)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def large_head(model: Classifier) -> None:
    nn.init.normal_(model.head.weight)


def healthy() -> Recipe:
    return recipe()


def broken() -> Recipe:
    return recipe(large_head)


def fixed() -> Recipe:
    def change(model: Classifier) -> None:
        large_head(model)
        model.head.reset_parameters()

    return recipe(change)


def near_miss() -> dict[str, Recipe]:
    """A head of zeros, class weights, smoothing; a sixth class."""

    def zero(model: Classifier) -> None:
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)

    return {
        "zero head": recipe(zero),
        "weights and smoothing": recipe(
            loss_fn=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]), label_smoothing=0.1)
        ),
        "spare class": recipe(classes=6),
    }
