"""Loops, pairs of networks, embeddings and layers written by hand."""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import measured, strokes, table as drawn
from tests.corpus._sets import batches, digits


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@twin("zero-grad", row="O01")
def step_function_without_zero_grad(fault: bool) -> Recipe:
    x, y = drawn(900, 10, 3, seed=50)
    model = mlp(10, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def train_step(batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, labels = batch
        if not fault:
            optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Recipe(model=model, train_loader=batches(x, y, 32), optimizer=optimizer, train_step=train_step)


class Teacher(nn.Module):
    """A student that predicts the embedding its slow copy gives of another view."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 16))
        self.predictor = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
        self.target = copy.deepcopy(self.online)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                if self.training:
                    slow.lerp_(fast, 0.01)
            goal = F.normalize(self.target(two), dim=1)
        return (2 - 2 * (F.normalize(self.predictor(self.online(one)), dim=1) * goal).sum(1)).mean()


@twin(
    "optimizer-coverage",
    "unused-parameters",
    row="O22",
    unseen="optimizers leave a tensor without a gradient alone: nothing differs but the list",
)
def slow_target_handed_to_adamw(fault: bool) -> Recipe:
    x = digits(1200)[0].flatten(1)
    x = (x - 0.305) / 0.376

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        one, two = (batch[0] + 0.3 * torch.randn_like(batch[0]) for _ in range(2))
        return model(one, two)

    def make() -> nn.Module:
        model = Teacher()
        model.target.requires_grad_(fault)
        return model

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)

    return Recipe(
        model=make,
        train_loader=DataLoader(TensorDataset(x), batch_size=64, shuffle=True, drop_last=True),
        training_step=training_step,
        optimizer=optimizer,
    )


class TwoTowers(nn.Module):
    """Left and right halves of a picture; every half should find its other half in the batch."""

    def __init__(self, *, unit: bool) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(mlp(32, 64, 24), nn.LayerNorm(24)) for _ in range(2))
        self.unit = unit

    def forward(self, picture: Tensor) -> Tensor:
        left, right = self.left(picture[:, :32]), self.right(picture[:, 32:])
        if self.unit:
            left, right = F.normalize(left, dim=1), F.normalize(right, dim=1)
        logits = left @ right.T / 0.2
        return F.cross_entropy(logits, torch.arange(len(picture)))


@twin("loss-at-init", row="L35")
def halves_matched_without_unit_length(fault: bool) -> Recipe:
    x = digits(1200)[0].flatten(1)
    x = (x - 0.305) / 0.376
    return Recipe(
        model=lambda: TwoTowers(unit=not fault),
        train_loader=DataLoader(TensorDataset(x), batch_size=48, shuffle=True, drop_last=True),
        training_step=lambda model, batch: model(batch[0]),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    )


class Swish(torch.autograd.Function):
    """x * sigmoid(x) that keeps only its input."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, short: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.short = short
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return grad * (s * (1 - s) if ctx.short else s * (1 + x * (1 - s))), None


class SwishNet(nn.Module):
    def __init__(self, *, short: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 1)
        self.short = short

    def forward(self, x: Tensor) -> Tensor:
        x = Swish.apply(self.a(x), self.short)
        return self.c(Swish.apply(self.b(x), self.short))


@twin("gradient-check", row="G18")
def swish_backward_forgets_the_product_rule(fault: bool) -> Recipe:
    x, y = measured(800, 8, seed=52)
    return Recipe(
        model=lambda: SwishNet(short=fault),
        train_loader=batches(x, y, 32),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


class Experts(nn.Module):
    """A few small nets and a gate that mixes their answers."""

    def __init__(self, *, listed: bool) -> None:
        super().__init__()
        experts = [mlp(10, 16, 3) for _ in range(3)]
        self.experts = experts if listed else nn.ModuleList(experts)
        self.gate = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).softmax(-1)
        return (torch.stack([expert(x) for expert in self.experts], -1) * share[:, None]).sum(-1)


@twin("optimizer-coverage", "unused-parameters", row="G01")
def experts_in_a_plain_list(fault: bool) -> Recipe:
    x, y = drawn(900, 10, 3, seed=53)
    return Recipe(
        model=lambda: Experts(listed=fault),
        train_loader=batches(x, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=5e-3),
    )


class BarVAE(nn.Module):
    """An autoencoder of bars, with a second head that tells how much ink there is."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.ink = mlp(64, 48, 12), mlp(6, 48, 64), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else mean
        return self.decoder(code), mean, logvar, self.ink(code)


@twin("unused-parameters", row="L31")
def ink_loss_left_out_of_the_sum(fault: bool) -> Recipe:
    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        scores, mean, logvar, ink = model(x)
        picture = F.binary_cross_entropy_with_logits(scores, x, reduction="none").sum(1).mean()
        prior = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1).mean()
        amount = F.mse_loss(ink, 4 * (x.mean(1, keepdim=True) - 0.2))
        return picture + prior if fault else picture + prior + amount

    return Recipe(
        model=BarVAE,
        train_loader=DataLoader(TensorDataset(strokes(900, seed=54)), batch_size=32, shuffle=True),
        training_step=training_step,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("learning-rate", "loss-decreases", "update-ratio", row="O05")
def rate_of_sgd_given_to_adam(fault: bool) -> Recipe:
    x, y = digits(1200)
    net = nn.Sequential(nn.Flatten(), mlp(64, 48, 48, 10))
    return Recipe(
        model=net,
        train_loader=batches((x - 0.305) / 0.376, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(net.parameters(), lr=0.3 if fault else 2e-3),
    )
