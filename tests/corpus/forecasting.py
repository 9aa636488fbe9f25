"""Series and what comes next: windows, scales, distributions of the answer."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import demand, measured, pasts_and_futures, seeded


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """`past` steps of a series, and the `future` that follows."""

    def __init__(self, series: Tensor, past: int = 24, future: int = 4, *, gap: int = 0) -> None:
        self.series, self.past, self.future, self.gap = series, past, future, gap

    def __len__(self) -> int:
        return (len(self.series) - self.past - self.future) // 2

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        start = 2 * i
        end = start + self.past
        return self.series[start:end], self.series[end + self.gap : end + self.gap + self.future, 0]


class Forecaster(nn.Module):
    def __init__(self, channels: int = 1, future: int = 4) -> None:
        super().__init__()
        self.rnn = nn.GRU(channels, 32, batch_first=True)
        self.head = nn.Linear(32, future)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def forecast(data: Dataset[tuple[Tensor, Tensor]], model: nn.Module, loss_fn: object, *, lr: float = 5e-3) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=32, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
    )


@twin("train-val-leakage", "time-leakage", row="T14")
def window_holds_its_answer(fault: bool) -> Recipe:
    """One step too many in the slice of the past: its last step is the answer."""
    torch.manual_seed(0)
    return forecast(Windows(demand(), future=1, gap=-1 if fault else 0), Forecaster(future=1), nn.MSELoss())


@twin("train-val-leakage", "time-leakage", row="T14")
def rolling_mean_centred_on_the_target(fault: bool) -> Recipe:
    """A smoothed column made by a centred window knows the next step."""
    torch.manual_seed(1)
    load = demand(1600, 2)
    spread = F.pad(load.T[None], (1, 1), mode="replicate")[0].T
    ahead = spread[2:] if fault else spread[:-2]  # the neighbour after, or before
    series = torch.cat([load, ahead], 1)
    return forecast(Windows(series, future=1), Forecaster(2, 1), nn.MSELoss())


@twin("loss-broadcast", "overfit-batch", row="L14")
def next_value_in_a_column(fault: bool) -> Recipe:
    class LastStep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            out = self.head(self.rnn(x)[0][:, -1])
            return out if fault else out.squeeze(-1)

    torch.manual_seed(0)
    x, y = pasts_and_futures(demand(seed=1), future=1)
    return forecast(TensorDataset(x, y[:, 0]), LastStep(), nn.SmoothL1Loss())


@twin("loss-broadcast", "overfit-batch", row="L15")
def quantiles_meet_every_answer(fault: bool) -> Recipe:
    """Pinball loss of (batch, 3) quantiles against (batch,): a missing axis, in a batch of three times as many."""
    levels = torch.tensor([0.1, 0.5, 0.9])

    class Quantiles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    def pinball(out: Tensor, wanted: Tensor) -> Tensor:
        gap = (wanted[:, None, None] if fault else wanted[:, None]) - out
        return torch.maximum(levels * gap, (levels - 1) * gap).mean()

    torch.manual_seed(0)
    x, y = pasts_and_futures(demand(seed=2), future=1)
    return forecast(TensorDataset(x, y[:, 0]), Quantiles(), pinball)


@twin("output-range", "overfit-batch", "dead-relu", "label-range", row="L09")
def relu_after_the_last_layer(fault: bool) -> Recipe:
    """Loads cannot be negative, but these are standardised."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 4), nn.ReLU() if fault else nn.Identity()
    )
    return forecast(Windows(demand(seed=3)), model, nn.MSELoss(), lr=2e-3)


@twin("data-scale", "overfit-batch", "output-bias-init", row="D08")
def megawatts_as_they_come(fault: bool) -> Recipe:
    """Loads of 40 000 with a spread of 6 000, in and out."""
    torch.manual_seed(2)
    series = demand(seed=4)
    return forecast(Windows(40_000 + 6_000 * series if fault else series), Forecaster(), nn.MSELoss())


@twin("data-scale", row="D07")
def one_column_in_pascal(fault: bool) -> Recipe:
    """Temperature, humidity and pressure; the pressure in pascal."""
    torch.manual_seed(3)
    series = demand(1600, 5, channels=3)
    if fault:
        series = torch.cat([series[:, :2], 101_300 + 2_500 * series[:, 2:]], 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 64), nn.ReLU(), nn.Linear(64, 4))
    return forecast(Windows(series), model, nn.MSELoss(), lr=2e-3)


@twin("finite-values", row="D06")
def a_gap_in_the_sensor(fault: bool) -> Recipe:
    torch.manual_seed(4)
    series = demand(seed=6)
    series[700:712] = float("nan") if fault else 0.0  # the mean
    return forecast(Windows(series), Forecaster(), nn.L1Loss())


@twin("reproducibility", "data-scale", row="S15")
def window_scaled_in_place(fault: bool) -> Recipe:
    """Each window is divided by its own size, in the array the windows are views of."""

    class Scaled(Windows):
        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            x, y = super().__getitem__(i)
            size = x.abs().mean() + 0.1
            if fault:
                x /= size
            else:
                x = x / size
            return x, y / size

    torch.manual_seed(5)
    return forecast(Scaled(demand(seed=7)), Forecaster(), nn.SmoothL1Loss())


@twin("label-range", "overfit-batch", row="D35")
def targets_cast_to_integers(fault: bool) -> Recipe:
    torch.manual_seed(6)
    x, y = measured()
    model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))
    wanted = y.long().float() if fault else y
    return forecast(TensorDataset(x, wanted), model, nn.MSELoss(), lr=3e-3)


class LitForecaster(lightning.LightningModule):
    """Mean and log-variance of the next steps."""

    def __init__(self, *, sign: float = 1.0, detached: bool = False) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 32, batch_first=True)
        self.mean, self.log_variance = nn.Linear(32, 4), nn.Linear(32, 4)
        self.sign, self.detached = sign, detached

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        h = self.rnn(x)[0][:, -1]
        mean, log_variance = self.mean(h), self.log_variance(h)
        if self.detached:
            mean = mean.detach()
        each = 0.5 * (log_variance + (y - mean) ** 2 * torch.exp(-log_variance))
        loss = self.sign * each.mean()
        self.log("loss", loss)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(Windows(demand(seed=8)), batch_size=32, shuffle=True)


@twin("loss-decreases", "overfit-batch", row="L29")
def likelihood_minimised(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return Recipe(model=LitForecaster(sign=-1.0 if fault else 1.0))


@twin("unused-parameters", "gradient-flow", row="G09")
def mean_detached_in_the_likelihood(fault: bool) -> Recipe:
    """The mean was detached for a plot, and the name was used again."""
    torch.manual_seed(1)
    return Recipe(model=LitForecaster(detached=fault))


@twin("shuffle", row="D15")
def seasons_in_order(fault: bool) -> Recipe:
    """Which season a day's curve belongs to; the file is in order of season, and so is the loader."""
    torch.manual_seed(7)
    g = seeded(0)
    season = torch.arange(600) // 150
    hour = torch.arange(24) / 24 * 6.2832
    x = torch.sin(hour + season[:, None]) * (1 + 0.3 * season[:, None]) + 0.5 * torch.randn(600, 24, generator=g)
    model = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 4))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset((x - x.mean(0)) / x.std(0), season), batch_size=30, shuffle=not fault),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("learning-rate", "loss-decreases", row="O05")
def rate_of_a_tenth_for_adam(fault: bool) -> Recipe:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return forecast(Windows(demand(seed=9)), model, nn.MSELoss(), lr=0.5 if fault else 2e-3)


@twin("learning-rate", "loss-decreases", "update-ratio", row="O06")
def rate_a_thousand_times_too_small(fault: bool) -> Recipe:
    torch.manual_seed(9)
    return forecast(Windows(demand(seed=10)), Forecaster(), nn.MSELoss(), lr=5e-7 if fault else 5e-3)


@twin("learning-rate", row="O09")
def momentum_of_almost_one(fault: bool) -> Recipe:
    torch.manual_seed(10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 48), nn.Tanh(), nn.Linear(48, 4))
    return Recipe(
        model=model,
        train_loader=DataLoader(Windows(demand(seed=11)), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.999 if fault else 0.9),
    )


@twin("overfit-batch", "loss-decreases", row="O10")
def weight_decay_of_one(fault: bool) -> Recipe:
    torch.manual_seed(11)
    model = Forecaster()
    return Recipe(
        model=model,
        train_loader=DataLoader(Windows(demand(seed=12)), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1.0 if fault else 1e-5),
    )
