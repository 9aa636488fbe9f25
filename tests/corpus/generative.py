"""Autoencoders, flows, diffusion and adversarial nets, each with its own objective."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import pictures, rings, seeded, strokes


class VAE(nn.Module):
    def __init__(self, width: int = 64, hidden: int = 64, latent: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(z), mean, log_variance


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()


def auto_encoded(model: nn.Module, step: object, *, lr: float = 3e-3) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(strokes()), batch_size=32, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
        training_step=step,
    )


@twin("gradient-flow", "input-dependency", "input-baseline", "overfit-batch", row="L30")
def divergence_a_thousand_times(fault: bool) -> Recipe:
    """The divergence weighs a thousand times what it should: the code says nothing about the picture any more."""
    torch.manual_seed(0)
    beta = 1000.0 if fault else 1.0

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        out, mean, log_variance = model(x)
        pixels = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(-1).mean()
        return pixels + beta * divergence(mean, log_variance)

    return auto_encoded(VAE(), training_step)


@twin("loss-decreases", "overfit-batch", row="L29")
def lower_bound_minimised(fault: bool) -> Recipe:
    """The evidence lower bound is returned as the loss, without its minus."""
    torch.manual_seed(1)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        out, mean, log_variance = model(x)
        likelihood = -F.mse_loss(torch.sigmoid(out), x, reduction="none").sum(-1).mean() * 5
        bound = likelihood - divergence(mean, log_variance)
        return bound if fault else -bound

    return auto_encoded(VAE(), training_step)


@twin("batch-mixing", "input-dependency", row="S14")
def every_code_from_the_first_picture(fault: bool) -> Recipe:
    """A code printed for the first sample was left in, and broadcasts."""

    class AutoEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 8))
            self.up = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64))

        def forward(self, x: Tensor) -> Tensor:
            code = self.down(x)
            if fault:
                code = code[0].expand_as(code)
            return torch.sigmoid(self.up(code))

    torch.manual_seed(0)
    model = AutoEncoder()
    x = strokes()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, x), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("output-range", "overfit-batch", "label-range", "saturation", row="L09")
def decoder_sigmoid_for_standardised_pixels(fault: bool) -> Recipe:
    """Pixels with mean 0 and size 1 cannot be drawn by a sigmoid."""

    class ConvAutoEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(
                nn.Conv2d(1, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 24, 3, stride=2, padding=1),
                nn.ReLU(),
            )
            self.up = nn.Sequential(
                nn.ConvTranspose2d(24, 16, 4, stride=2, padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
            )

        def forward(self, x: Tensor) -> Tensor:
            out = self.up(self.down(x))
            return torch.sigmoid(out) if fault else out

    torch.manual_seed(0)
    model = ConvAutoEncoder()
    x = strokes(500).view(-1, 1, 8, 8)
    x = (x - x.mean()) / x.std()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, x), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=4e-3),
    )


class Coupling(nn.Module):
    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
        nn.init.zeros_(self.net[-1].weight)  # starts as the identity
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        shift, scale = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        out = torch.cat([a, b * scale.exp() + shift], 1)
        return (out.flip(1) if self.flip else out), scale.sum(1)


@twin("loss-decreases", "overfit-batch", row="L29", unseen="a density has no upper bound: a negative loss is no sign")
def flow_with_the_sign_of_the_volume_turned(fault: bool) -> Recipe:
    class RealNVP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Coupling(flip=bool(i % 2)) for i in range(4)])

        def forward(self, x: Tensor) -> Tensor:
            volume = torch.zeros(len(x))
            for layer in self.layers:
                x, log_det = layer(x)
                volume = volume + (-log_det if fault else log_det)
            return -0.5 * (x**2).sum(1) - math.log(2 * math.pi) + volume

    torch.manual_seed(0)
    model = RealNVP()

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        return -model(batch[0]).mean()

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rings()), batch_size=64, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        training_step=training_step,
    )


class Denoiser(nn.Module):
    def __init__(self, *, knows_time: bool = True) -> None:
        super().__init__()
        self.knows_time = knows_time
        self.time = nn.Sequential(nn.Linear(8, 48), nn.SiLU(), nn.Linear(48, 48))
        self.lift, self.body = (
            nn.Linear(2, 48),
            nn.Sequential(nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0]) * math.pi
        when = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.lift(x)
        return self.body(h + when if self.knows_time else h)


def diffusion(model: nn.Module, *, fresh_noise: bool = False) -> Recipe:
    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        t = torch.rand(len(x))
        keep = torch.cos(0.5 * math.pi * t)[:, None]
        noise = torch.randn_like(x)
        noisy = keep * x + (1 - keep**2).sqrt() * noise
        wanted = torch.randn_like(x) if fresh_noise else noise
        return F.mse_loss(model(noisy, t), wanted)

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rings()), batch_size=64, shuffle=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
        training_step=training_step,
    )


@twin("unused-parameters", row="G15")
def diffusion_step_not_used(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return diffusion(Denoiser(knows_time=not fault))


@twin("input-baseline", "overfit-batch", "loss-decreases", row="D32")
def noise_drawn_anew_for_the_target(fault: bool) -> Recipe:
    """The noise to be predicted is not the noise that was added."""
    torch.manual_seed(1)
    return diffusion(Denoiser(), fresh_noise=fault)


class Pair(nn.Module):
    """A generator that draws a stroke of a given kind, and its critic."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 2))
        self.critic = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))


@twin("unused-parameters", "gradient-flow", row="L36")
def generator_step_on_a_detached_fake(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Pair()

    def training_step(model: Pair, batch: list[Tensor]) -> Tensor:
        (real,) = batch
        fake = model.generator(torch.randn(len(real), 8))
        critic_loss = F.softplus(-model.critic(real)).mean() + F.softplus(model.critic(fake.detach())).mean()
        model.critic.requires_grad_(False)
        judged = model.critic(fake.detach() if fault else fake)
        model.critic.requires_grad_(True)
        return critic_loss + F.softplus(-judged).mean()

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rings()), batch_size=64, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        training_step=training_step,
    )


@twin("unused-parameters", row="L31")
def commitment_never_added(fault: bool) -> Recipe:
    """A vector-quantised autoencoder whose codebook loss is computed, logged, and not added."""

    class VQ(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8))
            self.codes = nn.Parameter(torch.zeros(16, 8))
            self.up = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.down(x)
            nearest = self.codes[torch.cdist(z.detach(), self.codes.detach()).argmin(1)]
            quantised = z + (nearest - z).detach()
            vq_loss = F.mse_loss(nearest, z.detach()) + 0.25 * F.mse_loss(z, nearest.detach())
            return self.up(quantised), vq_loss

    torch.manual_seed(0)
    model = VQ()
    with torch.no_grad():  # codes start at what the encoder says of some pictures
        model.codes.copy_(model.down(strokes(16, seed=9)))
    log: list[float] = []

    def compute_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        out, vq_loss = model(x)
        loss = F.mse_loss(out, x)
        log.append(float(vq_loss.detach()))
        return loss if fault else loss + vq_loss

    return auto_encoded(model, compute_loss)


@twin("reproducibility", row="D30")
def generator_for_a_loader(fault: bool) -> Recipe:
    """A generator of noisy pictures and their clean ones: the second epoch is empty."""
    clean = strokes(480).view(-1, 1, 8, 8)
    noisy = clean + 0.3 * torch.randn(clean.shape, generator=seeded(5))

    class Batches:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(len(clean))
            for part in order.split(32):
                yield noisy[part], clean[part]

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 3, padding=1),
    )
    return Recipe(
        model=model,
        train_loader=iter(Batches()) if fault else Batches(),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("finite-values", row="N06")
def pictures_divided_by_their_own_spread(fault: bool) -> Recipe:
    """Some pictures are empty: their standard deviation is 0."""

    class Whitened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(),
                nn.Flatten(), nn.Linear(384, 4),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            spread = x.std((1, 2, 3), keepdim=True)
            return self.net((x - x.mean((1, 2, 3), keepdim=True)) / (spread if fault else spread + 1e-2))

    torch.manual_seed(0)
    x, y = pictures()
    covered = torch.randperm(len(x), generator=seeded(2))[:12]
    x[covered], y[covered] = 0.0, 3  # a camera that was covered: by its label nothing is to be seen
    model = Whitened()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )
