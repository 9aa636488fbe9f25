"""The diabetes table, with answers that a bound of one's own cuts off; handwritten digits that are learned slowly."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _digits(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    scheduler: Callable[[torch.optim.Optimizer], object] | None = None,
    loss_fn: nn.Module | None = None,
) -> Recipe:
    data = load_digits()
    x = torch.tensor((data.images - data.images.mean()) / data.images.std(), dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(data.target)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 16, 10),
    )
    chosen = optimizer(model)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True),
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=chosen,
        scheduler=scheduler(chosen) if scheduler else None,
    )


class Regressor(nn.Module):
    def __init__(self, bound: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return self.bound(self.layers(x))


def _progression(bound: Callable[[Tensor], Tensor]) -> Recipe:
    """How far the disease has gone in a year, standardised: from -1.5 to 2.5."""
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std()).unsqueeze(1)
    torch.manual_seed(0)
    model = Regressor(bound)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def healthy() -> Recipe:
    return _progression(lambda out: out)


def broken() -> Recipe:
    return _progression(lambda out: out * (out > 0))


def fixed() -> Recipe:
    return _progression(lambda out: torch.where(out > 0, out, 0.2 * out))


def near_miss() -> dict[str, Recipe]:
    """A small rate, a warm-up that starts at zero, a floor far above zero, strong decay: all learn."""
    return {
        "small rate": _digits(lambda model: torch.optim.AdamW(model.parameters(), lr=5e-5)),
        "warm-up from zero": _digits(
            lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
            lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100)),
        ),
        "label smoothing": _digits(
            lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
            loss_fn=nn.CrossEntropyLoss(label_smoothing=0.2),
        ),
        "decay": _digits(lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.5)),
    }
