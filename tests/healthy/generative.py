"""Generative and self-supervised set-ups: losses without a zero floor, noise in the step, two networks."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from tests.healthy.data import generator, images, loader, vectors


def _patterns() -> Tensor:
    """(512, 64) in 0..1."""
    x, _ = images(channels=1, size=8)
    return (x.flatten(1) * 0.8).sigmoid()


def _adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def autoencoder() -> Recipe:
    """A bare tensor as the batch: the model rebuilds its input."""
    x, _ = images(channels=1, size=8)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12), nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 64)
    )
    data = torch.utils.data.DataLoader(x.flatten(1), batch_size=32, shuffle=True)
    return Recipe(model=model, train_loader=data, loss_fn=nn.MSELoss(), optimizer=_adam(model))


def variational_autoencoder() -> Recipe:
    """The classic example's loss: a sum over pixels and samples, plus a divergence. It never nears zero."""

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.mean, self.log_variance = nn.Linear(64, 48), nn.Linear(48, 8), nn.Linear(48, 8)
            self.outside = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            hidden = F.relu(self.inside(x))
            mean, log_variance = self.mean(hidden), self.log_variance(hidden)
            code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
            return self.outside(code), mean, log_variance

    def training_step(model: VAE, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        rebuilt, mean, log_variance = model(x)
        likelihood = F.binary_cross_entropy(rebuilt, x, reduction="sum")
        return likelihood - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())

    torch.manual_seed(0)
    model = VAE()
    return Recipe(model=model, train_loader=loader(_patterns()), training_step=training_step, optimizer=_adam(model))


def discriminator() -> Recipe:
    """A GAN's discriminator alone: real against a fixed generator's samples."""
    real = _patterns()
    torch.manual_seed(1)
    maker = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        with torch.no_grad():
            fake = maker(torch.randn(len(x), 8))
        ones, zeros = torch.ones(len(x), 1), torch.zeros(len(x), 1)
        real_loss = F.binary_cross_entropy_with_logits(model(x), ones)
        return (real_loss + F.binary_cross_entropy_with_logits(model(fake), zeros)) / 2

    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999))
    return Recipe(model=model, train_loader=loader(real), training_step=training_step, optimizer=optimizer)


def denoising_diffusion() -> Recipe:
    """Noise and time are drawn in the step; the target is the noise."""
    x, _ = images(channels=1, size=8)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(65, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 64))

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.net(torch.cat([x, time], 1))

    def training_step(model: Net, batch: list[Tensor]) -> Tensor:
        (clean,) = batch
        time = torch.rand(len(clean), 1)
        noise = torch.randn_like(clean)
        noisy = torch.cos(time * math.pi / 2) * clean + torch.sin(time * math.pi / 2) * noise
        return F.mse_loss(model(noisy, time), noise)

    torch.manual_seed(0)
    model = Net()
    data = loader(x.flatten(1))
    return Recipe(model=model, train_loader=data, training_step=training_step, optimizer=_adam(model))


def normalising_flow() -> Recipe:
    """Affine couplings that start as the identity; the loss is a density and may be negative."""
    g = generator()
    x = torch.randn(1024, 4, generator=g)
    x = torch.cat([x[:, :2], x[:, :2] ** 2 * 0.5 + 0.1 * x[:, 2:]], 1)

    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 4)) for _ in range(4))
            for net in self.nets:
                nn.init.zeros_(net[-1].weight)
                nn.init.zeros_(net[-1].bias)

        def forward(self, x: Tensor) -> Tensor:
            log_det = torch.zeros(len(x))
            for net in self.nets:
                kept, changed = x.chunk(2, 1)
                scale, shift = net(kept).chunk(2, 1)
                scale = torch.tanh(scale)
                x = torch.cat([changed * scale.exp() + shift, kept], 1)
                log_det = log_det + scale.sum(1)
            return -0.5 * (x**2 + math.log(2 * math.pi)).sum(1) + log_det

    def training_step(model: Flow, batch: list[Tensor]) -> Tensor:
        return -model(batch[0]).mean()

    torch.manual_seed(0)
    model = Flow()
    return Recipe(model=model, train_loader=loader(x), training_step=training_step, optimizer=_adam(model))


def bootstrap_with_a_target_network() -> Recipe:
    """BYOL: a copy of the encoder, without gradients and not in the optimizer, gives the targets."""
    x, _ = images(channels=1, size=8)
    x = x.flatten(1)

    class BYOL(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 16))
            self.predictor = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            predicted = F.normalize(self.predictor(self.online(a)), dim=1)
            with torch.no_grad():
                wanted = F.normalize(self.target(b), dim=1)
            return 2 - 2 * (predicted * wanted).sum(1)

    def training_step(model: BYOL, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        first, second = x + 0.2 * torch.randn_like(x), x + 0.2 * torch.randn_like(x)
        return model(first, second).mean()

    torch.manual_seed(0)
    model = BYOL()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    return Recipe(model=model, train_loader=loader(x), training_step=training_step, optimizer=optimizer)


def domain_adversarial() -> Recipe:
    """Gradient reversal: the backward pass is not the forward pass's derivative, on purpose."""
    x, y = vectors()
    domain = (torch.rand(len(x), generator=generator(3)) < 0.5).float()
    x = x + domain[:, None] * 0.5

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return -0.1 * grad

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
            self.label, self.domain = nn.Linear(32, 4), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.features(x)
            return self.label(hidden), self.domain(Reverse.apply(hidden))

    def training_step(model: Net, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, label, domain = batch
        logits, guess = model(x)
        return F.cross_entropy(logits, label) + F.binary_cross_entropy_with_logits(guess.squeeze(1), domain)

    torch.manual_seed(0)
    model = Net()
    data = loader(x, y, domain)
    return Recipe(model=model, train_loader=data, training_step=training_step, optimizer=_adam(model))


def straight_through_codebook() -> Recipe:
    """VQ-VAE: nearest code by argmin, straight-through to the encoder, two stop-gradients."""
    x, _ = images(channels=1, size=8)

    class VQ(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8))
            self.codes = nn.Embedding(32, 8)
            self.decoder = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))

        def forward(self, x: Tensor) -> Tensor:
            inside = self.encoder(x)
            nearest = self.codes(torch.cdist(inside, self.codes.weight).argmin(1))
            rebuilt = self.decoder(inside + (nearest - inside).detach())
            pull = F.mse_loss(nearest, inside.detach()) + 0.25 * F.mse_loss(inside, nearest.detach())
            return F.mse_loss(rebuilt, x) + pull

    torch.manual_seed(0)
    model = VQ()
    return Recipe(model=model, train_loader=loader(x.flatten(1)), optimizer=_adam(model))
