"""Sound set-ups whose objective is unusual: densities, counts, survival, imitation, generation, several tasks at once."""

from __future__ import annotations

import copy
import math

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from nncheck import Recipe
from tests.corpus import sound
from tests.corpus._material import measured, rings, seeded, strokes, table


def mlp(before: int, after: int, width: int = 48) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, width), nn.ReLU(), nn.Linear(width, after))


def fitted(
    model: nn.Module, *data: Tensor, loss_fn: object = None, lr: float = 3e-3, batch_size: int = 32, **more: object
) -> Recipe:
    parts = {"optimizer": torch.optim.Adam(model.parameters(), lr=lr), **more}
    if data:
        parts["train_loader"] = DataLoader(TensorDataset(*data), batch_size=batch_size, shuffle=True)
    return Recipe(model=model, loss_fn=loss_fn, **parts)


@sound("a loss that stays far above zero")
def variational_autoencoder_in_lightning() -> Recipe:
    class LitVAE(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = mlp(64, 12), mlp(6, 64)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            (x,) = batch
            mean, log_variance = self.encoder(x).chunk(2, 1)
            z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            drawn = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1).mean()
            prior = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
            self.log_dict({"drawn": drawn, "prior": prior})
            return drawn + prior

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

        def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
            return DataLoader(TensorDataset(strokes()), batch_size=32, shuffle=True)

    torch.manual_seed(0)
    return Recipe(model=LitVAE())


@sound("modulations that start at zero, noise in every step")
def diffusion_with_zero_modulation() -> Recipe:
    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width, elementwise_affine=False)
            self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            self.modulate = nn.Linear(width, 3 * width)
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

        def forward(self, x: Tensor, when: Tensor) -> Tensor:
            shift, scale, gate = self.modulate(F.silu(when)).chunk(3, 1)
            return x + gate * self.net(self.norm(x) * (1 + scale) + shift)

    class Denoiser(nn.Module):
        def __init__(self, width: int = 32) -> None:
            super().__init__()
            self.lift, self.when = (
                nn.Linear(2, width),
                nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width)),
            )
            self.blocks = nn.ModuleList([Block(width) for _ in range(2)])
            self.out = nn.Linear(width, 2)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            angles = t[:, None] * torch.tensor([1.0, 2, 4, 8]) * math.pi
            when = self.when(torch.cat([angles.sin(), angles.cos()], 1))
            h = self.lift(x)
            for block in self.blocks:
                h = block(h, when)
            return self.out(h)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        t, noise = torch.rand(len(x)), torch.randn_like(x)
        keep = torch.cos(0.5 * math.pi * t)[:, None]
        return F.mse_loss(model(keep * x + (1 - keep**2).sqrt() * noise, t), noise)

    torch.manual_seed(0)
    return fitted(Denoiser(), rings(), batch_size=64, training_step=training_step)


@sound("a generator and a critic with opposed aims")
def generator_and_critic_take_turns() -> Recipe:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = mlp(6, 2)
            self.critic = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))

        def forward(self, noise: Tensor) -> Tensor:
            return self.generator(noise)

    torch.manual_seed(0)
    model = Pair()
    both = torch.optim.Adam(
        [{"params": model.generator.parameters(), "lr": 1e-3}, {"params": model.critic.parameters(), "lr": 2e-3}],
        betas=(0.5, 0.99),
    )

    def training_step(model: Pair, batch: list[Tensor]) -> Tensor:
        (real,) = batch
        fake = model(torch.randn(len(real), 6))
        told = F.softplus(-model.critic(real)).mean() + F.softplus(model.critic(fake.detach())).mean()
        model.critic.requires_grad_(False)
        fooled = F.softplus(-model.critic(fake)).mean()
        model.critic.requires_grad_(True)
        return told + fooled

    return fitted(model, rings(), batch_size=64, optimizer=both, training_step=training_step)


@sound("a target network without gradients")
def bootstrapped_latents() -> Recipe:
    class Bootstrap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online = nn.Sequential(nn.Linear(10, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 16))
            self.predict = mlp(16, 16)
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            with torch.no_grad():
                goal = F.normalize(self.target(b), dim=1)
            return 2 - 2 * (F.normalize(self.predict(self.online(a)), dim=1) * goal).sum(1).mean()

    torch.manual_seed(0)
    model = Bootstrap()
    optimizer = torch.optim.AdamW([*model.online.parameters(), *model.predict.parameters()], lr=2e-3)

    def train_step(model: Bootstrap, batch: list[Tensor]) -> Tensor:
        x = batch[0]
        a, b = x + 0.3 * torch.randn_like(x), x + 0.3 * torch.randn_like(x)
        loss = (model(a, b) + model(b, a)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(model.target.parameters(), model.online.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        return loss

    loader = DataLoader(TensorDataset(table(700)[0]), batch_size=35, shuffle=True)
    return Recipe(model=model, train_loader=loader, optimizer=optimizer, train_step=train_step)


@sound("a margin that many triplets already meet")
def triplets_in_the_batch() -> Recipe:
    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        z = F.normalize(model(x), dim=1)
        far = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
        same = y[:, None] == y
        positive = far.masked_fill(~same, 0).amax(1)
        negative = far.masked_fill(same, 9).amin(1)
        return F.relu(positive - negative + 0.3).mean()

    torch.manual_seed(0)
    return fitted(mlp(10, 16), *table(600), batch_size=40, training_step=training_step)


@sound("a loss that falls below zero, as a density may")
def mixture_of_densities() -> Recipe:
    g = seeded(0)
    y = torch.rand(800, 1, generator=g) * 2 - 1
    x = y + 0.6 * torch.sin(4 * y) + 0.1 * torch.randn(800, 1, generator=g)

    class Mixture(nn.Module):
        def __init__(self, parts: int = 4) -> None:
            super().__init__()
            self.body, self.out = nn.Sequential(nn.Linear(1, 48), nn.Tanh()), nn.Linear(48, 3 * parts)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            weight, mean, size = self.out(self.body(x)).chunk(3, 1)
            return weight.log_softmax(1), mean, F.softplus(size) + 1e-2

    def likelihood(out: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        weight, mean, size = out
        return -torch.logsumexp(weight + torch.distributions.Normal(mean, size).log_prob(y), 1).mean()

    torch.manual_seed(0)
    return fitted(Mixture(), x, y, loss_fn=likelihood, lr=5e-3)


@sound("a loss with a floor of its own")
def three_quantiles() -> Recipe:
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(out: Tensor, y: Tensor) -> Tensor:
        gap = y - out
        return torch.maximum(levels * gap, (levels - 1) * gap).mean()

    torch.manual_seed(0)
    return fitted(mlp(8, 3), *measured(800), loss_fn=pinball)


@sound("counts, some of them zero")
def visits_counted() -> Recipe:
    x, y = measured(900)
    rate = torch.exp(0.4 + 0.5 * y[:, 0])
    counts = torch.poisson(rate, generator=seeded(1))
    torch.manual_seed(0)
    model = nn.Sequential(*mlp(8, 1), nn.Flatten(0))
    with torch.no_grad():
        model[-2].bias.fill_(float(counts.mean().log()))
    return fitted(model, x, counts, loss_fn=nn.PoissonNLLLoss())


@sound("every risk is compared with the others of its batch")
def survival_by_partial_likelihood() -> Recipe:
    x, y = measured(800)
    g = seeded(2)
    time = torch.empty(800).exponential_(1.0, generator=g) / torch.exp(y[:, 0])
    censored = torch.rand(800, generator=g) < 0.3
    time = torch.where(censored, time * torch.rand(800, generator=g), time)

    def partial(risk: Tensor, seen: Tensor) -> Tensor:
        when, event = seen[:, 0], seen[:, 1]
        order = when.argsort(descending=True)
        risk, event = risk[order, 0], event[order]
        return -((risk - torch.logcumsumexp(risk, 0)) * event).sum() / event.sum().clamp(min=1)

    torch.manual_seed(0)
    return fitted(mlp(8, 1), x, torch.stack([time, (~censored).float()], 1), loss_fn=partial, batch_size=50)


@sound("one sample in twenty is positive, and the loss knows")
def focal_loss_for_a_rare_class() -> Recipe:
    x, _ = table(1600)
    score = x[:, 0] + x[:, 1]
    y = (score > score.quantile(0.95)).float()[:, None]

    def focal(logits: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        right = p * y + (1 - p) * (1 - y)
        weight = 0.75 * y + 0.25 * (1 - y)
        return (weight * (1 - right) ** 2 * F.binary_cross_entropy_with_logits(logits, y, reduction="none")).mean()

    torch.manual_seed(0)
    model = mlp(10, 1)
    nn.init.constant_(model[-1].bias, -math.log(19.0))
    return fitted(model, x, y, loss_fn=focal, batch_size=64)


@sound("classes of 300, 150 and 60, drawn evenly")
def rare_classes_drawn_more_often() -> Recipe:
    x, y = table(1400)
    keep = torch.cat([torch.nonzero(y == c).squeeze(1)[:n] for c, n in ((0, 300), (1, 150), (2, 60))])
    keep = keep[torch.randperm(len(keep), generator=seeded(3))]
    x, y = x[keep], y[keep]
    sampler = WeightedRandomSampler((1 / torch.bincount(y).double())[y], len(y))
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, sampler=sampler)
    return fitted(mlp(10, 3), train_loader=loader, loss_fn=nn.CrossEntropyLoss())


@sound("two losses of different size, weighed by what is learned")
def tasks_weighed_by_their_uncertainty() -> Recipe:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(10, 48), nn.ReLU())
            self.kind, self.size = nn.Linear(48, 3), nn.Linear(48, 1)
            self.log_variance = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.body(x)
            return self.kind(h), self.size(h).squeeze(1)

    def training_step(model: Both, batch: dict[str, Tensor]) -> Tensor:
        kind, size = model(batch["x"])
        losses = torch.stack([F.cross_entropy(kind, batch["kind"]), F.mse_loss(size, batch["size"])])
        return (losses * torch.exp(-model.log_variance) + 0.5 * model.log_variance).sum()

    x, kind = table(700)
    size = torch.tanh(x[:, 0] * x[:, 1]) + 0.5 * x[:, 2]
    size = (size - size.mean()) / size.std()
    torch.manual_seed(0)
    model = Both()
    items = [{"x": x[i], "kind": kind[i], "size": size[i]} for i in range(700)]
    return fitted(model, train_loader=DataLoader(items, batch_size=32, shuffle=True), training_step=training_step)


@sound("a target made by the model itself")
def values_by_temporal_difference() -> Recipe:
    """Transitions of a walk on a line; the target net is a fixed copy."""
    g = seeded(0)
    state = torch.rand(900, 2, generator=g) * 2 - 1
    action = torch.randint(3, (900,), generator=g)
    after = (state + 0.3 * torch.stack([action - 1.0, 0.5 * torch.randn(900, generator=g)], 1)).clamp(-1, 1)
    reward = -(after**2).sum(1)
    torch.manual_seed(0)
    online = mlp(2, 3)
    frozen = copy.deepcopy(online).requires_grad_(False)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        s, a, r, s2 = batch
        with torch.no_grad():
            goal = r + 0.9 * frozen(s2).amax(1)
        return F.smooth_l1_loss(model(s).gather(1, a[:, None]).squeeze(1), goal)

    return fitted(online, state, action, reward, after, training_step=training_step)


@sound("an output bounded by tanh for bounded answers")
def imitation_of_an_expert() -> Recipe:
    g = seeded(0)
    seen = torch.randn(800, 6, generator=g)
    gain = torch.randn(6, 2, generator=seeded(1)) * 0.5
    acted = torch.tanh(seen @ gain + 0.3 * torch.sin(2 * seen[:, :2])) + 0.02 * torch.randn(800, 2, generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 2), nn.Tanh())
    return fitted(model, seen, acted.clamp(-0.999, 0.999), loss_fn=nn.MSELoss())


@sound("ratings around 3.5")
def tastes_with_biases() -> Recipe:
    g = seeded(0)
    user, item = torch.randint(50, (1600,), generator=g), torch.randint(40, (1600,), generator=g)
    a, b = torch.randn(50, 3, generator=g), torch.randn(40, 3, generator=g)
    stars = 3.5 + 0.5 * a[user, 0] + 0.4 * b[item, 0] + 0.4 * (a[user, 1:] * b[item, 1:]).sum(1)

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(50, 8), nn.Embedding(40, 8)
            self.user_bias, self.item_bias = nn.Embedding(50, 1), nn.Embedding(40, 1)
            self.mean = nn.Parameter(torch.tensor(3.5))
            for part in (self.user, self.item, self.user_bias, self.item_bias):
                nn.init.normal_(part.weight, std=0.05)

        def forward(self, user: Tensor, item: Tensor) -> Tensor:
            biases = self.user_bias(user) + self.item_bias(item)
            return self.mean + biases.squeeze(1) + (self.user(user) * self.item(item)).sum(1)

    def compute_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        user, item, stars = batch
        return F.mse_loss(model(user, item), stars)

    torch.manual_seed(0)
    return fitted(Factors(), user, item, stars, lr=1e-2, batch_size=40, training_step=compute_loss)


@sound("a hundred rows")
def small_table_with_validation() -> Recipe:
    x, y = table(140, 6, 2, seed=4)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.05)
    return fitted(
        model, x[:100], y[:100], loss_fn=nn.CrossEntropyLoss(), batch_size=20, optimizer=optimizer,
        val_loader=DataLoader(TensorDataset(x[100:], y[100:]), batch_size=40), epochs=40,
        scheduler=lr_scheduler.CosineAnnealingLR(optimizer, T_max=40), scheduler_interval="epoch",
    )  # fmt: skip


@sound("sixteen different rows, many times over")
def exclusive_or() -> Recipe:
    """Sixteen boards of four bits; the answer is their parity. Every board comes back in training, as there are no others."""
    g = seeded(0)
    bits = torch.randint(2, (400, 4), generator=g)
    parity = (bits.sum(1) % 2).float()[:, None]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    return fitted(model, bits.float() * 2 - 1, parity, loss_fn=nn.BCEWithLogitsLoss(), lr=1e-2)


@sound("dropout that stays on in evaluation, on purpose")
def monte_carlo_dropout() -> Recipe:
    class MCDropout(nn.Dropout):
        """Always on: predictions are averaged over draws."""

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, self.p, training=True)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), MCDropout(0.1), nn.Linear(64, 1))
    return fitted(model, *measured(700), loss_fn=nn.MSELoss())


@sound("a head whose classes are ordered")
def ordered_grades() -> Recipe:
    """Four thresholds on one score: whether the grade is above each."""
    x, y = measured(800)
    cuts = torch.tensor([-1.0, -0.3, 0.3, 1.0])
    grade = (y > cuts).float()

    class Ordinal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = mlp(8, 1)
            self.cuts = nn.Parameter(cuts.clone())

        def forward(self, x: Tensor) -> Tensor:
            return 1.5 * (self.score(x) - self.cuts)

    torch.manual_seed(0)
    return fitted(Ordinal(), x, grade, loss_fn=nn.BCEWithLogitsLoss())


@sound("a density by change of variables, couplings that start as the identity")
def couplings_that_start_at_nothing() -> Recipe:
    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList([nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 2)) for _ in range(4)])
            for net in self.nets:
                nn.init.zeros_(net[-1].weight)
                nn.init.zeros_(net[-1].bias)

        def forward(self, x: Tensor) -> Tensor:
            volume = 0.0
            for net in self.nets:
                a, b = x.chunk(2, 1)
                shift, scale = net(a).chunk(2, 1)
                scale = torch.tanh(scale)
                x = torch.cat([b * scale.exp() + shift, a], 1)
                volume = volume + scale.sum(1)
            return 0.5 * (x**2).sum(1) + math.log(2 * math.pi) - volume

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        return model(batch[0]).mean()

    torch.manual_seed(0)
    return fitted(Flow(), rings(), batch_size=64, training_step=training_step)
