"""Peak memory of a run against that of one training step, each in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.steps import check
from bench.tables import table
from nncheck.assemble import assemble
from nncheck.recipe import Recipe, Setup


def activations() -> Setup:
    """A network whose memory is its activations: 64 images of 64 by 64 pixels through narrow convolutions."""
    layers: list[nn.Module] = []
    for given, wide in ((3, 8), (8, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(given, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
    return _setup(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), (3, 64, 64))


def parameters() -> Setup:
    """A network whose memory is its parameters: six million of them."""
    layers = (nn.Flatten(), nn.Linear(768, 2048), nn.ReLU(), nn.Linear(2048, 2200), nn.ReLU(), nn.Linear(2200, 4))
    return _setup(nn.Sequential(*layers), (3, 16, 16))


def _setup(model: nn.Module, shape: tuple[int, ...]) -> Setup:
    torch.manual_seed(0)
    y = torch.randint(4, (256,))
    x = torch.randn(4, *shape)[y] + torch.randn(256, *shape)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return assemble(Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))


SETUPS = {"activations": activations, "parameters": parameters}


def worker(which: str, what: str) -> None:
    """Print the peak of this process in MiB before and after a training step, or before and after all checks."""
    from nncheck.registry import load

    load()
    setup = SETUPS[which]()
    torch.randn(8, 8) @ torch.randn(8, 8)
    before = _peak()
    if what == "step":
        assert setup.loss_fn is not None
        for x, y in [next(iter(setup.train_loader))] * 2:
            setup.optimizer.zero_grad()
            setup.loss_fn(setup.model(x), y).backward()
            setup.optimizer.step()
    else:
        check(which, setup, ignore=("learning",) if what == "without" else ())
    print(before, _peak())


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure() -> str:
    """One row a network."""
    rows = []
    for which in SETUPS:
        grown = {}
        for what in ("step", "without", "all"):
            command = [sys.executable, "-c", f"from bench.memory import worker; worker({which!r}, {what!r})"]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            grown[what] = float(out[-1]) - float(out[-2])
        step = grown["step"]
        rows.append(
            [which, f"{step:.0f} MiB", *(f"{grown[w]:.0f} MiB ({grown[w] / step:.2f}x)" for w in ("without", "all"))]
        )
    head = ["memory mostly in", "training step", "without the learning checks", "all checks"]
    return table(
        "Peak memory beyond the loaded model (limit: 2x a step, and a float64 copy of a few samples)", head, rows
    )
