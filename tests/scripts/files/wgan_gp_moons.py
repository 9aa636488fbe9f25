"""WGAN-GP on the two half moons (2-D, so one can look at the samples by eye)."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import Tensor, autograd, nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    seed: int = 7
    n_points: int = 2048
    batch_size: int = 64
    latent_dim: int = 4
    hidden: int = 64
    n_critic: int = 3
    lambda_gp: float = 1.0
    lr: float = 1e-3
    epochs: int = 5


def mlp(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), nn.LeakyReLU(0.2),
        nn.Linear(n_hidden, n_hidden), nn.LeakyReLU(0.2),
        nn.Linear(n_hidden, n_out),
    )


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """(|| grad_x critic(x) ||_2 - 1)^2 at points between real and fake."""
    eps = torch.rand(real.size(0), 1)
    x = (eps * real + (1 - eps) * fake).requires_grad_(True)
    score = critic(x)
    grads = autograd.grad(
        outputs=score,
        inputs=x,
        grad_outputs=torch.ones_like(score),
        create_graph=True,
    )[0]
    return ((grads.norm(2, dim=1) - 1) ** 2).mean()


def sliced_distance(a: Tensor, b: Tensor, n_proj: int = 64) -> float:
    """Sliced Wasserstein-1 distance of two equally large samples."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(2, n_proj, generator=g)
    theta = theta / theta.norm(dim=0)
    pa, pb = (a @ theta).sort(dim=0).values, (b @ theta).sort(dim=0).values
    return (pa - pb).abs().mean().item()


def train(cfg: Config) -> None:
    points, _ = make_moons(cfg.n_points + 512, noise=0.05, random_state=cfg.seed)
    points = torch.from_numpy(points.astype(np.float32))
    train_points, held_out = points[: cfg.n_points], points[cfg.n_points :]
    mean, std = train_points.mean(0), train_points.std(0)
    train_points, held_out = (train_points - mean) / std, (held_out - mean) / std
    loader = DataLoader(TensorDataset(train_points), batch_size=cfg.batch_size, shuffle=True, drop_last=True)

    generator = mlp(cfg.latent_dim, cfg.hidden, 2)
    critic = mlp(2, cfg.hidden, 1)
    opt_g = torch.optim.Adam(generator.parameters(), lr=cfg.lr, betas=(0.5, 0.9))
    opt_c = torch.optim.Adam(critic.parameters(), lr=cfg.lr, betas=(0.5, 0.9))

    for epoch in range(cfg.epochs):
        critic_losses, gen_losses = [], []
        for (real,) in loader:
            for _ in range(cfg.n_critic):
                z = torch.randn(real.size(0), cfg.latent_dim)
                fake = generator(z).detach()
                gp = gradient_penalty(critic, real, fake)
                loss_c = critic(fake).mean() - critic(real).mean() + cfg.lambda_gp * gp

                opt_c.zero_grad()
                loss_c.backward()
                opt_c.step()
                critic_losses.append(loss_c.item())

            z = torch.randn(real.size(0), cfg.latent_dim)
            loss_g = -critic(generator(z)).mean()
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
            gen_losses.append(loss_g.item())

        with torch.no_grad():
            samples = generator(torch.randn(len(held_out), cfg.latent_dim))
        print(
            f"epoch {epoch + 1}/{cfg.epochs} | W estimate {-np.mean(critic_losses):.3f} "
            f"| generator {np.mean(gen_losses):+.3f} | sliced W to held out {sliced_distance(samples, held_out):.3f}"
        )


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    train(config)
