"""Does the cost grow with the number of layers beyond what a training step itself costs?"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench.steps import check
from bench.tables import table
from nncheck.recipe import Recipe, Setup
from nncheck.target.assemble import assemble

DEPTHS = (10, 30, 100, 300, 1000)


class Residual(nn.Module):
    """x + relu(linear(x)), with a branch that starts small, so that a thousand of them train."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.normal_(self.linear.weight, std=(2 / width / depth) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.linear(x)
        return x + branch.relu()


def network(depth: int, width: int = 64) -> Setup:
    """A residual classifier of `depth` layers on data it can learn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1024, width, generator=generator)
    y = (x @ torch.randn(width, 10, generator=generator)).argmax(1)
    torch.manual_seed(0)
    model = nn.Sequential(*[Residual(width, depth) for _ in range(depth)], nn.LayerNorm(width), nn.Linear(width, 10))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return assemble(Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))


def step_seconds(setup: Setup, repeats: int = 7) -> float:
    """The median time of a plain training step, first steps left out."""
    x, y = next(iter(setup.train_loader))
    assert setup.loss_fn is not None
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        setup.optimizer.zero_grad()
        setup.loss_fn(setup.model(x), y).backward()
        setup.optimizer.step()
        times.append(time.perf_counter() - begun)
    return median(times[2:])


def measure() -> str:
    """One row a depth: parameter tensors, the step, and all checks but the two that train."""
    rows = []
    for depth in DEPTHS:
        setup = network(depth)
        step = step_seconds(network(depth))
        begun = time.perf_counter()
        result = check(f"{depth} layers", setup, ignore=("learning",))
        seconds = time.perf_counter() - begun
        tensors = sum(1 for _ in setup.model.parameters())
        steps = result.cost.train_steps
        beyond = (seconds - steps * step) / depth
        rows.append([str(depth), str(tensors), f"{step * 1e3:.1f} ms", f"{seconds:.2f} s", f"{steps:.1f}"])
        rows[-1] += [f"{seconds / step:.0f}", f"{beyond * 1e3:.2f} ms"]
    head = ["layers", "tensors", "training step", "all checks", "step equivalents", "time / step", "beyond, per layer"]
    return table("Growth with depth (without overfit-batch and input-baseline)", head, rows)
