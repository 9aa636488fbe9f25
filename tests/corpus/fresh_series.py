"""Measurements over time: forecasts, activities, and what is carried from step to step."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import demand, motions, pasts_and_futures, seeded


class CausalBlock(nn.Module):
    """A dilated convolution over the past, with a norm and a shortcut."""

    def __init__(self, width: int, dilation: int, *, both_sides: bool, norm: str) -> None:
        super().__init__()
        self.reach, self.both_sides = 2 * dilation, both_sides
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation)
        self.norm: nn.Module = nn.GroupNorm(1, width) if norm == "group" else nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        pad = (self.reach // 2, self.reach // 2) if self.both_sides else (self.reach, 0)
        h = self.conv(F.pad(x, pad))
        h = self.norm(h) if isinstance(self.norm, nn.GroupNorm) else self.norm(h.transpose(1, 2)).transpose(1, 2)
        return x + F.gelu(h)


class TCN(nn.Module):
    """Says at every hour what the next hour brings: (B, T, C) to (B, T)."""

    def __init__(self, channels: int = 1, width: int = 16, *, both_sides: bool = False, norm: str = "layer") -> None:
        super().__init__()
        self.inp = nn.Conv1d(channels, width, 1)
        self.blocks = nn.Sequential(*(CausalBlock(width, d, both_sides=both_sides, norm=norm) for d in (1, 2, 4)))
        self.out = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(self.inp(x.transpose(1, 2)))).squeeze(1)


def next_hours(seed: int = 0, length: int = 24) -> TensorDataset:
    series = demand(1600, seed)
    pieces = series[:, 0].unfold(0, length + 1, 3)
    return TensorDataset(pieces[:, :-1, None].clone(), pieces[:, 1:].clone())


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=3e-3)


@twin("time-leakage", row="T18")
def tcn_with_same_padding(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: TCN(both_sides=fault),
        train_loader=DataLoader(next_hours(31), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=adam,
    )


@twin("time-leakage", row="E13")
def tcn_normalised_over_the_window(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: TCN(norm="group" if fault else "layer"),
        train_loader=DataLoader(next_hours(32), batch_size=32, shuffle=True),
        loss_fn=nn.L1Loss(),
        optimizer=adam,
    )


class SensorLSTM(nn.Module):
    def __init__(self, channels: int, classes: int, *, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, 32, batch_first=batch_first)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out.mean(1))


@twin("batch-mixing", row="S03")
def sensor_lstm_runs_along_the_batch(fault: bool) -> Recipe:
    x, y = motions(800, 20, 6, 4, seed=33)
    return Recipe(
        model=lambda: SensorLSTM(6, 4, batch_first=not fault),
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=adam,
    )


class MeanAndSpread(nn.Module):
    def __init__(self, past: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(past, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.body(x).chunk(2, 1)
        return mean, F.softplus(raw) + 1e-2


@twin("loss-broadcast", "overfit-batch", row="L15")
def own_gaussian_likelihood_meets_a_flat_target(fault: bool) -> Recipe:
    past, future = pasts_and_futures(demand(2000, 34), 24, 1, 2)
    target = future[:, 0] if fault else future

    def likelihood(output: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        mean, spread = output
        return (spread.log() + 0.5 * ((y - mean) / spread) ** 2 + 0.5 * math.log(2 * math.pi)).mean()

    return Recipe(
        model=lambda: MeanAndSpread(24),
        train_loader=DataLoader(TensorDataset(past, target), batch_size=32, shuffle=True),
        loss_fn=likelihood,
        optimizer=adam,
    )


class Forecaster(nn.Module):
    def __init__(self, channels: int = 1, hidden: int = 24, future: int = 1) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, future)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x)[1][-1])


class Windows(Dataset):
    """A window of `past` hours and the hour that follows it."""

    def __init__(self, series: Tensor, past: int, *, one_too_many: bool = False) -> None:
        self.series, self.past, self.extra = series, past, int(one_too_many)

    def __len__(self) -> int:
        return len(self.series) - self.past - 1

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.series[i + self.extra : i + self.past + self.extra], self.series[i + self.past, :1]


@twin("train-val-leakage", "time-leakage", row="T14")
def slice_one_hour_too_far(fault: bool) -> Recipe:
    return Recipe(
        model=Forecaster,
        train_loader=DataLoader(Windows(demand(1200, 35), 16, one_too_many=fault), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=adam,
    )


@twin("train-val-leakage", row="D22")
def windows_cut_then_split_at_random(fault: bool) -> Recipe:
    data = Windows(demand(1400, 36, channels=2), 24)
    order = torch.arange(len(data))
    if fault:
        order = order[torch.randperm(len(data), generator=seeded(4))]
    train, held_out = order[:1050], order[1050:] if fault else order[1080:]
    return Recipe(
        model=lambda: Forecaster(2),
        train_loader=DataLoader(Subset(data, train.tolist()), batch_size=32, shuffle=True),
        val_loader=DataLoader(Subset(data, held_out.tolist()), batch_size=64),
        loss_fn=nn.MSELoss(),
        optimizer=adam,
    )


class RememberingGRU(nn.Module):
    """Classifies traces; keeps the last state where `keep`."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(6, 32, batch_first=True), nn.Linear(32, 4)
        self.keep = keep
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        start = self.state if self.state is not None and self.state.size(1) == len(x) else None
        out, state = self.gru(x, start)
        if self.keep:
            self.state = state.detach()
        return self.fc(out[:, -1])


@twin("eval-mode", "reproducibility", row="T11")
def traces_start_where_others_ended(fault: bool) -> Recipe:
    x, y = motions(800, 20, 6, 4, seed=37)
    return Recipe(
        model=lambda: RememberingGRU(keep=fault),
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, drop_last=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=adam,
    )


@twin("lr-schedule", row="O16")
def cosine_period_of_a_short_trial(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: TCN(width=12),
        train_loader=DataLoader(next_hours(38), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10 if fault else 40),
        scheduler_interval="epoch",
        epochs=40,
    )


@twin("finite-values", row="D06")
def outage_left_in_the_series(fault: bool) -> Recipe:
    series = demand(1300, 39)
    if fault:
        series[611:617] = float("nan")
    return Recipe(
        model=Forecaster,
        train_loader=DataLoader(Windows(series, 16), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=adam,
    )


@twin("output-range", "overfit-batch", "label-range", row="L09")
def forecast_ends_in_a_relu(fault: bool) -> Recipe:
    past, future = pasts_and_futures(demand(1800, 40), 24, 4, 2)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4)]
    net = nn.Sequential(*layers, *([nn.ReLU()] if fault else []))
    return Recipe(
        model=net,
        train_loader=DataLoader(TensorDataset(past, future), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(net.parameters(), lr=3e-3),
    )
