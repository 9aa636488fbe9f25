"""Numbers to predict: house prices, progression of a disease, curves."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, housing, standard, table


def net(inputs: int, outputs: int = 1, width: int = 48) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def fit(model: nn.Module, loader: DataLoader, loss=None, *, lr: float = 2e-3, **parts) -> Recipe:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=loader, loss_fn=loss or nn.MSELoss(), optimizer=optimizer, **parts)


def houses(count: int = 1000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scaled features and scaled prices, both with a column axis."""
    x, y = housing(count, seed=seed)
    return standard(x), standard(y[:, None])


@twin("loss-broadcast", "overfit-batch", row="L14")
def prices_without_their_column(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses()
    return fit(net(6), batches(x, y[:, 0] if fault else y))


class LogCosh(nn.Module):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = prediction - target
        return (error + F.softplus(-2 * error) - math.log(2)).mean()


@twin("loss-broadcast", "overfit-batch", row="L15")
def own_loss_broadcasts(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=1)
    model = net(6) if fault else nn.Sequential(*net(6), nn.Flatten(0))
    return fit(model, batches(x, y[:, 0]), LogCosh())


@twin("loss-broadcast", "overfit-batch", row="L15")
def gaussian_likelihood_broadcasts(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=2)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        mean, log_variance = output[:, :1], output[:, 1:]
        if not fault:
            mean, log_variance = mean[:, 0], log_variance[:, 0]
        return (0.5 * (log_variance + (target - mean) ** 2 / log_variance.exp())).mean()

    return fit(net(6, 2), batches(x, y[:, 0]), loss)


@twin("forward-pass", "batch-consistency", "loss-broadcast", row="S02")
def rows_folded_by_a_wrong_view(fault: bool) -> Recipe:
    torch.manual_seed(0)

    class Curve(nn.Module):
        """A window of sixteen readings in two channels."""

        def __init__(self) -> None:
            super().__init__()
            self.width = 16 if fault else 32
            self.net = net(self.width)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.view(-1, self.width))

    g = torch.Generator().manual_seed(3)
    x = torch.randn(800, 2, 16, generator=g)
    y = standard((x[:, 0, :4].sum(1) - x[:, 1, -4:].sum(1))[:, None])
    loss = (lambda o, t: F.mse_loss(o, t.squeeze(-1))) if fault else F.mse_loss
    return fit(Curve(), batches(x, y), loss)


class Towers(nn.Module):
    """Two towers, joined before the head."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.place, self.house = nn.Linear(2, 16), nn.Linear(4, 16)
        self.head = nn.Linear(16 if dim == 0 else 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.house(x[:, :4]), self.place(x[:, 4:])], dim=self.dim)
        return self.head(F.gelu(h)).squeeze(-1)


@twin("forward-pass", "loss-broadcast", "batch-consistency", row="S13")
def towers_joined_along_the_batch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=4)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).mean()

    return fit(Towers(0 if fault else 1), batches(x, y if fault else y[:, 0]), loss)


@twin("output-range", "overfit-batch", "label-range", row="L09")
def relu_on_values_that_may_be_negative(fault: bool) -> Recipe:
    torch.manual_seed(1)
    x, y = houses(seed=5)
    return fit(nn.Sequential(*net(6), *([nn.ReLU()] if fault else [])), batches(x, y))


@twin("output-range", "overfit-batch", "label-range", row="L09")
def tanh_on_values_beyond_one(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=6)
    return fit(nn.Sequential(*net(6), nn.Tanh() if fault else nn.Identity()), batches(x, y), nn.SmoothL1Loss())


@twin("data-scale", "overfit-batch", "output-bias-init", "loss-at-init", row="D08")
def prices_in_dollars(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = housing(seed=7)
    y = y[:, None] if fault else standard(y[:, None])
    return fit(net(6), batches(standard(x), y))


@twin("output-bias-init", "data-scale", row="I09")
def temperatures_far_from_zero(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=8)
    model = net(6)
    if not fault:
        nn.init.constant_(model[-1].bias, 22.0)
    return fit(model, batches(x, y * 2 + 22), nn.L1Loss())


@twin("output-bias-init", "unused-parameters", "overfit-batch", row="I11")
def head_without_a_bias_for_targets_around_six(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=9)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1, bias=not fault))
    if not fault:
        nn.init.constant_(model[-1].bias, 6.0)
    return fit(model, batches(x, y + 6), nn.HuberLoss())


@twin("label-range", "class-balance", "input-baseline", row="D35")
def shares_cast_to_whole_numbers(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = housing(seed=10)
    share = torch.sigmoid(standard(y))
    y = share.long().float() if fault else share
    model = nn.Sequential(*net(6), nn.Sigmoid(), nn.Flatten(0))
    return fit(model, batches(standard(x), y), nn.MSELoss())


@twin("finite-values", row="G22")
def where_around_a_logarithm(fault: bool) -> Recipe:
    """The forward pass is finite; the gradient of the branch not taken is not."""
    torch.manual_seed(0)
    x, y = houses(seed=11)

    class LogUnits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(6, 32), nn.Linear(32, 1)
            self.gain = nn.Parameter(torch.ones(32))

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.hidden(x)) * self.gain  # a ReLU by itself would pass no NaN on
            log_h = torch.log(h if fault else h.clamp_min(0.1))
            return self.head(torch.where(h > 0.1, log_h, torch.full_like(h, math.log(0.1))) + 1)

    return fit(LogUnits(), batches(x, y), lr=1e-3)


@twin("finite-values", row="G23")
def distance_to_itself(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=12)

    class Distances(nn.Module):
        """Distances of a row's features to its own first one."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2, 8)
            self.head = net(3)

        def forward(self, x: Tensor) -> Tensor:
            points = self.embed(x.view(-1, 3, 2))
            squared = ((points - points[:, :1]) ** 2).sum(-1)
            return self.head(torch.sqrt(squared if fault else squared + 1e-6))

    return fit(Distances(), batches(x, y))


@twin("finite-values", row="N06")
def normalised_by_a_spread_of_zero(fault: bool) -> Recipe:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(13)
    x = torch.randn(800, 20, generator=g).cumsum(1)
    x[::90] = x[::90, :1]  # a sensor that was off
    y = standard(((x[:, -1] - x[:, 0]) / (x.std(1) + 1e-3))[:, None])

    def forward(x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + (0 if fault else 1e-3))

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(20)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(forward(x))

    return fit(Normalised(), batches(x, y))


@twin("gradient-flow", row="G19")
def loss_clamped_instead_of_gradients(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=15)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        errors = (output - target) ** 2
        return (errors.clamp(max=1.0) if fault else F.huber_loss(output, target, reduction="none")).mean()

    return fit(net(6), batches(x, y), loss)


class SwishFunction(torch.autograd.Function):
    """A swish written out, with its own backward."""

    @staticmethod
    def forward(ctx, x: Tensor, wrong: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.wrong = wrong
        return x * torch.sigmoid(1.7 * x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(1.7 * x)
        slope = s * (1 - s) if ctx.wrong else 1.7 * s * (1 - s)
        return grad * (s + x * slope), None


class Swish(nn.Module):
    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        return SwishFunction.apply(x, self.wrong)


@twin("gradient-check", row="G18")
def backward_without_the_chain_rules_factor(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), Swish(fault), nn.Linear(32, 32), Swish(fault), nn.Linear(32, 1))
    return fit(model, batches(*houses(seed=16)))


@twin("loss-at-init", "learning-rate", row="L17")
def loss_summed_over_the_batch(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss = nn.MSELoss(reduction="sum" if fault else "mean")
    return Recipe(model=model, train_loader=batches(*houses(seed=17)), loss_fn=loss, optimizer=optimizer)


@twin("learning-rate", "loss-decreases", "update-ratio", row="O05")
def adam_at_one(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return fit(net(6), batches(*houses(seed=18)), lr=1.0 if fault else 1e-3)


@twin("learning-rate", "loss-decreases", "update-ratio", row="O05")
def sgd_beyond_the_edge(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0 if fault else 0.05)
    return Recipe(model=model, train_loader=batches(*houses(seed=19)), loss_fn=nn.MSELoss(), optimizer=optimizer)


@twin("learning-rate", "loss-decreases", "update-ratio", row="O06")
def adam_at_a_billionth(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return fit(net(6), batches(*houses(seed=20)), lr=1e-8 if fault else 1e-3)


@twin("optimizer-coverage", "learning-rate", "update-ratio", row="O08")
def epsilon_and_rate_swapped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1.0 if fault else 1e-8)
    return Recipe(model=model, train_loader=batches(*houses(seed=21)), loss_fn=nn.MSELoss(), optimizer=optimizer)


@twin("learning-rate", row="O09")
def betas_swapped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    betas = (0.999, 0.9) if fault else (0.9, 0.999)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=betas)
    return Recipe(model=model, train_loader=batches(*houses(seed=22)), loss_fn=nn.MSELoss(), optimizer=optimizer)


@twin("overfit-batch", "loss-decreases", "learning-rate", "update-ratio", row="O10")
def decay_of_one_on_every_weight(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1.0 if fault else 1e-4)
    return Recipe(model=model, train_loader=batches(*houses(seed=23)), loss_fn=nn.MSELoss(), optimizer=optimizer)


class Ascent(torch.optim.Optimizer):
    """Sign momentum, written after a paper."""

    def __init__(self, params, lr: float, sign: float) -> None:
        super().__init__(params, {"lr": lr, "sign": sign})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (0.9 * m + 0.1 * p.grad).sign()
                m.mul_(0.99).add_(p.grad, alpha=0.01)
                p.add_(update, alpha=group["sign"] * group["lr"])


@twin("loss-decreases", "learning-rate", "optimizer-coverage", row="O28")
def own_optimizer_goes_uphill(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    optimizer = Ascent(model.parameters(), 3e-4, 1.0 if fault else -1.0)
    return Recipe(model=model, train_loader=batches(*houses(seed=24)), loss_fn=nn.MSELoss(), optimizer=optimizer)


class Augmented(Dataset):
    """Readings with a little noise of their own in every epoch."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index] + 0.02 * torch.randn(self.x.shape[1]), self.y[index]


@twin(
    "input-baseline",
    "generalization",
    "simple-baseline",
    row="D12",
    unseen="fewer than 1,000 samples do not tell labels without any relation from labels with a weak one",
)
def features_sorted_targets_not(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=25)
    order = x[:, 0].argsort()
    x, y = x[order], (y if fault else y[order])
    return fit(net(6), batches(x, y))


@sound("I09")
def diabetes_with_a_linear_head_at_zero() -> Recipe:
    torch.manual_seed(0)
    x, y = table("diabetes")
    model = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 1), nn.Flatten(0))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return fit(model, batches(x, standard(y), 32))


@sound("D08")
def prices_in_dollars_scaled_by_the_network() -> Recipe:
    """The head's last step brings the mean and the spread back; the loss is in units of the spread."""
    torch.manual_seed(0)
    x, y = housing(seed=26)
    mean, spread = float(y.mean()), float(y.std())

    class Prices(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        features, price = batch
        return F.mse_loss(model(features), (price - mean) / spread)

    model = Prices()
    return Recipe(
        model=model,
        train_loader=batches(standard(x), y),
        training_step=training_step,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
    )


@sound("L09")
def counts_through_softplus() -> Recipe:
    torch.manual_seed(0)
    x, y = houses(seed=27)
    counts = torch.poisson(torch.exp(0.5 * y + 0.5), generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(*net(6), nn.Softplus())
    nn.init.constant_(model[-2].bias, float(torch.log(torch.expm1(counts.mean()))))
    return fit(model, batches(x, counts), nn.PoissonNLLLoss(log_input=False))


@sound("L15")
def quantiles_meant_to_broadcast() -> Recipe:
    torch.manual_seed(0)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(output: Tensor, target: Tensor) -> Tensor:
        error = target - output  # (batch, 1) against (batch, 3): one target for three quantiles
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    model = net(6, 3)
    with torch.no_grad():
        model[-1].bias.copy_(torch.tensor([-1.28, 0.0, 1.28]))
    return fit(model, batches(*houses(seed=28)), pinball)


@sound("G25")
def rounded_with_a_straight_through_gradient() -> Recipe:
    torch.manual_seed(0)

    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Linear(6, 24), net(24)

        def forward(self, x: Tensor) -> Tensor:
            h = self.down(x).tanh()
            return self.up(h + ((h * 4).round() / 4 - h).detach())

    return fit(Levels(), batches(*houses(seed=29)))


@sound("O05")
def sgd_with_warm_up_and_cosine() -> Recipe:
    torch.manual_seed(0)
    model = net(6)
    loader = DataLoader(Augmented(*houses(seed=30)), batch_size=50, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    steps = 30 * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)),
    )
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        scheduler_interval="step",
        epochs=30,
    )


@sound("O09")
def sgd_on_a_noisy_curve() -> Recipe:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(31)
    x = torch.rand(500, 1, generator=g) * 4 - 2
    y = torch.sin(2 * x) + 0.1 * torch.randn(500, 1, generator=g)
    model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    return fit(model, batches(x, y, 25), lr=5e-3)
