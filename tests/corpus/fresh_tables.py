"""Columns and numbers: regression, classes and yes-or-no answers from tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import measured, table as drawn
from tests.corpus._sets import batches, housing, standard, table


def perceptron(inputs: int, outputs: int, hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class Rows(Dataset):
    """A table as a dict per row."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"features": self.x[i], "target": self.y[i]}


@twin("loss-broadcast", "overfit-batch", row="L14")
def smooth_l1_of_a_column_and_a_row(fault: bool) -> Recipe:
    x, y = measured(900, 9, seed=20)
    y = y.squeeze(1)

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        prediction = model(batch["features"])
        return F.smooth_l1_loss(prediction if fault else prediction.squeeze(1), batch["target"])

    return Recipe(
        model=lambda: perceptron(9, 1),
        train_loader=DataLoader(Rows(x, y), batch_size=32, shuffle=True),
        training_step=training_step,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("data-scale", "activation-scale", row="D07")
def wine_straight_from_the_file(fault: bool) -> Recipe:
    x, y = table("wine", scaled=not fault)
    return Recipe(
        model=lambda: perceptron(13, 3, 24),
        train_loader=batches(x, y, 16),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("data-scale", "output-bias-init", "overfit-batch", "loss-at-init", "learning-rate", row="D08")
def house_prices_left_in_dollars(fault: bool) -> Recipe:
    x, price = housing(1000, seed=5)
    target = price[:, None] if fault else standard(price[:, None])
    return Recipe(
        model=lambda: perceptron(6, 1),
        train_loader=batches(standard(x), target, 32),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class LoanTable(Dataset):
    """Standardised columns of past loans; some exports also hold what was written off in the end."""

    def __init__(self, *, written_off: bool) -> None:
        g = torch.Generator().manual_seed(17)
        x = torch.randn(1000, 10, generator=g)
        risk = x[:, 0] - 0.8 * x[:, 3] + 0.7 * x[:, 5] * x[:, 1] + 0.6 * torch.randn(1000, generator=g)
        self.y = (risk > 0.3).float()
        lost = standard((self.y * (1000 + 400 * torch.rand(1000, generator=g)))[:, None])
        extra = lost if written_off else torch.randn(1000, 1, generator=g)
        self.x = torch.cat([x[:, :6], extra, x[:, 6:]], 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i], self.y[i]


class Scorer(nn.Module):
    def __init__(self, inputs: int, hidden: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).squeeze(-1)


@twin("train-val-leakage", row="D13")
def written_off_amount_among_the_columns(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: Scorer(11),
        train_loader=DataLoader(LoanTable(written_off=fault), batch_size=40, shuffle=True),
        loss_fn=nn.BCEWithLogitsLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


@twin("train-val-shift", "generalization", row="D25")
def test_houses_never_scaled(fault: bool) -> Recipe:
    x, price = housing(1200, seed=6)
    mean, std = x[:900].mean(0), x[:900].std(0)
    y = ((price - price[:900].mean()) / price[:900].std())[:, None]
    held_out = x[900:] if fault else (x[900:] - mean) / std
    return Recipe(
        model=lambda: perceptron(6, 1),
        train_loader=batches((x[:900] - mean) / std, y[:900], 32),
        val_loader=batches(held_out, y[900:], 100, shuffle=False),
        loss_fn=nn.HuberLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("input-baseline", "generalization", "simple-baseline", row="D12")
def rows_dropped_from_one_file_only(fault: bool) -> Recipe:
    x, y = drawn(1200, 10, 3, seed=23)
    complete = torch.rand(1200, generator=torch.Generator().manual_seed(1)) > 0.03
    kept = complete.nonzero().flatten()
    x, y = (x[kept], y[: len(kept)]) if fault else (x[kept], y[kept])
    return Recipe(
        model=lambda: perceptron(10, 3),
        train_loader=batches(x, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


@twin("class-balance", "loss-at-init", row="L22")
def pos_weight_is_the_share_of_positives(fault: bool) -> Recipe:
    g = torch.Generator().manual_seed(29)
    x = torch.randn(1200, 8, generator=g)
    y = (x[:, 0] + 0.8 * x[:, 1] - 0.6 * x[:, 2].abs() + 0.3 * torch.randn(1200, generator=g) > 1.0).float()
    positive = y.mean()
    weight = positive / (1 - positive) if fault else (1 - positive) / positive
    return Recipe(
        model=lambda: Scorer(8),
        train_loader=batches(x, y, 50),
        loss_fn=nn.BCEWithLogitsLoss(pos_weight=weight),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


@twin("shuffle", row="D15")
def csv_written_class_by_class(fault: bool) -> Recipe:
    x, y = table("breast_cancer")
    order = y.argsort(stable=True)
    data = TensorDataset(x[order], y[order].long())
    return Recipe(
        model=lambda: perceptron(30, 2, 24),
        train_loader=DataLoader(data, batch_size=32, shuffle=not fault),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        epochs=20,
    )


def fill(module: nn.Module, value: float | None) -> None:
    if isinstance(module, nn.Linear):
        if value is None:
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.constant_(module.weight, value)
        nn.init.zeros_(module.bias)


@twin("symmetry", row="I01")
def every_weight_a_tenth(fault: bool) -> Recipe:
    x, y = drawn(900, 10, 3, seed=24)
    return Recipe(
        model=lambda: perceptron(10, 3).apply(lambda m: fill(m, 0.1 if fault else None)),
        train_loader=batches(x, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("optimizer-coverage", "update-ratio", row="O08")
def epsilon_from_a_reinforcement_paper(fault: bool) -> Recipe:
    x, y = measured(900, 8, seed=25)
    return Recipe(
        model=lambda: perceptron(8, 1),
        train_loader=batches(x, y, 32),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3, eps=1.0 if fault else 1e-8),
    )


@twin("label-range", "loss-at-init", "loss-decreases", row="L25")
def churn_coded_minus_one_and_one(fault: bool) -> Recipe:
    x, y = drawn(1000, 12, 2, seed=26)
    target = 2.0 * y - 1 if fault else y.float()
    return Recipe(
        model=lambda: Scorer(12),
        train_loader=batches(x, target, 40),
        loss_fn=F.binary_cross_entropy_with_logits,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )
