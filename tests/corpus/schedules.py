"""How the learning rate moves over a run, and what the scheduler holds on to."""

from __future__ import annotations

import math

import lightning
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import chain, measured, pictures, table


def loader(samples: int = 640, batch_size: int = 32) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*table(samples)), batch_size=batch_size, shuffle=True)


def classifier() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 3))


def scheduled(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: object, **when: object) -> Recipe:
    return Recipe(
        model=model,
        train_loader=loader(),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        **{"epochs": 30, "scheduler_interval": "epoch", **when},
    )


@twin("lr-schedule", row="O12")
def step_schedule_run_per_batch(fault: bool) -> Recipe:
    """A tenth every ten epochs becomes a tenth every ten batches."""
    torch.manual_seed(0)
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    return scheduled(model, optimizer, schedule, scheduler_interval="step" if fault else "epoch")


@twin("lr-schedule", row="O12")
def exponential_decay_per_batch_in_lightning(fault: bool) -> Recipe:
    class Lit(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = classifier()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> dict[str, object]:
            optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
            schedule = lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule, "interval": "step" if fault else "epoch"},
            }

        def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
            return loader()

    torch.manual_seed(1)
    return Recipe(model=Lit(), epochs=20)


@twin("lr-schedule", row="O15")
def scheduler_of_an_earlier_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(2)
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    if fault:  # made again when the weights were loaded
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return scheduled(model, optimizer, schedule)


@twin("lr-schedule", row="O16")
def cosine_climbs_again(fault: bool) -> Recipe:
    """`T_max` is that of a ten-epoch experiment; the run has thirty."""
    torch.manual_seed(3)
    model = classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    return scheduled(model, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, T_max=17 if fault else 30))


@twin("lr-schedule", row="O16")
def one_cycle_for_a_longer_run(fault: bool) -> Recipe:
    """`total_steps` counts the samples, not the batches: the rate hardly leaves its start."""
    torch.manual_seed(4)
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    steps = (640 if fault else 20) * 15
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    return scheduled(model, optimizer, schedule, epochs=15, scheduler_interval="step")


@twin("lr-schedule", row="O17")
def warm_up_longer_than_the_run(fault: bool) -> Recipe:
    """Four thousand steps of warm-up, as in the paper; the run has four hundred."""
    torch.manual_seed(5)
    rows = chain(640, 16)
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=16, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    warm_up = 4000 if fault else 40
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warm_up, max(400, warm_up + 1))
    items = [{"input_ids": row, "labels": row} for row in rows]
    return Recipe(
        model=model,
        train_loader=DataLoader(items, batch_size=16, shuffle=True),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="step",
        epochs=10,
    )


@twin("lr-schedule", row="O17")
def first_epoch_at_rate_zero(fault: bool) -> Recipe:
    """A warm-up from 0 that moves once per epoch: twenty batches at rate 0, and twenty more at next to nothing."""
    torch.manual_seed(6)
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def factor(t: int) -> float:
        now, warm, whole = (t, 6, 12) if fault else (t / 20, 0.6, 12)
        return min(now / warm, 1.0) * 0.5 * (1 + math.cos(math.pi * min(now / whole, 1.0)))

    schedule = lr_scheduler.LambdaLR(optimizer, factor)
    return scheduled(model, optimizer, schedule, epochs=12, scheduler_interval="epoch" if fault else "step")


@twin("lr-schedule", row="O18")
def plateau_waits_for_a_maximum(fault: bool) -> Recipe:
    """`mode='max'` is for accuracies; this one is fed the validation loss."""
    torch.manual_seed(7)
    x, y = measured(800)
    model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max" if fault else "min", factor=0.5, patience=3)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x[:640], y[:640]), batch_size=32, shuffle=True),
        val_loader=DataLoader(TensorDataset(x[640:], y[640:]), batch_size=80),
        loss_fn=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="epoch",
        epochs=40,
    )


@twin("lr-schedule", "optimizer-step", row="O14")
def scheduler_steps_before_the_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(8)
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=200)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if fault:
            schedule.step()
        optimizer.step()
        if not fault:
            schedule.step()
        return loss

    return Recipe(model=model, train_loader=loader(), optimizer=optimizer, train_step=train_step, epochs=10)


@twin("lr-schedule", row="O12")
def milestones_of_epochs_counted_in_batches(fault: bool) -> Recipe:
    torch.manual_seed(9)
    x, y = pictures(480)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = lr_scheduler.MultiStepLR(optimizer, milestones=[15, 22], gamma=0.1)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="step" if fault else "epoch",
        epochs=30,
    )


@twin("lr-schedule", row="O16")
def restarts_end_at_the_top(fault: bool) -> Recipe:
    """Warm restarts whose last cycle has just begun when the run ends."""
    torch.manual_seed(10)
    model = classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=14 if fault else 10)
    return scheduled(model, optimizer, schedule, epochs=30)
