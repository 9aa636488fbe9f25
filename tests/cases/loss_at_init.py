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


class Adapted(nn.Module):
    """A frozen layer and a trained product of low rank beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.t() @ self.up.t()


def _adapted() -> Recipe:
    """A network that is sure of the labels it was trained on is given others."""

    def change(model: Classifier) -> None:
        x, y = data()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.body[0], model.head = Adapted(model.body[0]), Adapted(model.head)

    return recipe(change, target=lambda y: 4 - y)


def _contrastive() -> Recipe:
    """Two noisy views of a sample belong together: the classes are the batch's own samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 16))

    def step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        one, other = (model(batch[0] + 0.1 * torch.randn_like(batch[0])) for _ in range(2))
        scores = nn.functional.normalize(one) @ nn.functional.normalize(other).t() / 0.1
        return nn.functional.cross_entropy(scores, torch.arange(len(scores)))

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(data()[0]), batch_size=32, shuffle=True),
        training_step=step,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def near_miss() -> dict[str, Recipe]:
    """A head of zeros, class weights, smoothing; a sixth class; a contrastive loss; adapters on a frozen network."""

    def zero(model: Classifier) -> None:
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)

    return {
        "zero head": recipe(zero),
        "weights and smoothing": recipe(
            loss_fn=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]), label_smoothing=0.1)
        ),
        "spare class": recipe(classes=6),
        "contrastive": _contrastive(),
        "adapted": _adapted(),
    }
