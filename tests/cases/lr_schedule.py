"""Handwritten digits with schedules stepped as they are meant, or in the other unit."""

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

EPOCHS = 20
UPDATES = EPOCHS * 29  # 1,797 digits in batches of 64


def _recipe(make: Callable[[Optimizer], object], interval: str | None, *, epochs: int | None = EPOCHS) -> Recipe:
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Recipe(
        model=model,
        train_loader=DataLoader(
            TensorDataset((x - x.mean()) / x.std(), torch.tensor(data.target)), batch_size=64, shuffle=True
        ),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=make(optimizer),
        scheduler_interval=interval,
        epochs=epochs,
    )


def healthy() -> Recipe:
    return _recipe(lambda o: lr_scheduler.StepLR(o, step_size=8, gamma=0.1), "epoch")


def broken() -> Recipe:
    return _recipe(lambda o: lr_scheduler.StepLR(o, step_size=8, gamma=0.1), "step")


def fixed() -> Recipe:
    return _recipe(lambda o: lr_scheduler.StepLR(o, step_size=8 * 29, gamma=0.1), "step")


def near_miss() -> dict[str, Recipe]:
    """Rates that fall far, rise from zero, or come back, on purpose."""
    return {
        "warm restarts": _recipe(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5), "epoch"),
        "a warm-up from zero": _recipe(lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 100)), "step"),
        "a warm-up, then a cosine": _recipe(
            lambda o: lr_scheduler.SequentialLR(
                o,
                [lr_scheduler.LinearLR(o, 0.01, total_iters=2), lr_scheduler.CosineAnnealingLR(o, EPOCHS - 2)],
                [2],
            ),
            None,
        ),
        "one cycle, nothing said": _recipe(lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=UPDATES), None),
        "a decay without a known end": _recipe(lambda o: lr_scheduler.ExponentialLR(o, 0.9), None, epochs=None),
        "a plateau of the accuracy": _recipe(lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="max"), "epoch"),
    }
