"""Peak memory of a run against that of one training step, each in a process of its own."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.tables import table
from nncheck.recipe import Recipe, Setup
from nncheck.registry import select
from nncheck.runner import run_target
from nncheck.target.assemble import assemble
from nncheck.verdict import CheckResult, Stage


def activations() -> Setup:
    """A network whose memory is its activations: 64 images of 64 by 64 pixels through narrow convolutions, pointwise for speed."""
    layers: list[nn.Module] = []
    for given, wide in ((3, 8), (8, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(given, wide, 1), nn.BatchNorm2d(wide), nn.ReLU()]
    return _setup(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), (3, 64, 64))


def parameters() -> Setup:
    """A network whose memory is its parameters: six million of them."""
    layers = (nn.Flatten(), nn.Linear(768, 2048), nn.ReLU(), nn.Linear(2048, 2200), nn.ReLU(), nn.Linear(2200, 4))
    return _setup(nn.Sequential(*layers), (3, 16, 16))


def _setup(model: nn.Module, shape: tuple[int, ...]) -> Setup:
    torch.manual_seed(0)
    y = torch.randint(4, (256,))
    x = torch.randn(4, shape[0], 1, 1)[y] + torch.randn(256, *shape)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return assemble(Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))


SETUPS = {"activations": activations, "parameters": parameters}


def worker(which: str, what: str) -> None:
    """Print the peak of this process in MiB before and after a training step; or before, until and after the learning checks."""
    setup = SETUPS[which]()
    torch.randn(8, 8) @ torch.randn(8, 8)
    before = peak()
    if what == "step":
        assert setup.loss_fn is not None
        for x, y in [next(iter(setup.train_loader))] * 2:
            setup.optimizer.zero_grad()
            setup.loss_fn(setup.model(x), y).backward()
            setup.optimizer.step()
        print(before, peak())
    else:
        until = _UntilLearning()
        run_target(which, setup, selected=select((), ()), seed=0, device=torch.device("cpu"), listener=until)
        print(before, until.found, peak())


class _UntilLearning:
    """Told of every check: takes down the peak when the first of the learning checks begins."""

    found = 0.0

    def check_started(self, id: str, stage: str) -> None:
        if stage == Stage.LEARNING and not self.found:
            self.found = peak()

    def check_done(self, result: CheckResult) -> None: ...


def peak() -> float:
    """The peak memory of this process in MiB."""
    # getrusage's maximum outlives exec: a child of a large process would start at its parent's peak.
    status = Path("/proc/self/status")
    if status.exists():
        return float(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure() -> str:
    """One row a network."""
    rows = []
    for which in SETUPS:
        grown: list[float] = []
        for what in ("step", "checks"):
            command = [sys.executable, "-c", f"from bench.memory import worker; worker({which!r}, {what!r})"]
            before, *after = map(
                float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            )
            grown += [peak - before for peak in after]
        step = grown[0]
        rows.append([which, f"{step:.0f} MiB", *(f"{more:.0f} MiB ({more / step:.2f}x)" for more in grown[1:])])
    head = ["memory mostly in", "training step", "without the learning checks", "all checks"]
    return table(
        "Peak memory beyond the loaded model (limit: 2x a step, and a float64 copy of a few samples)", head, rows
    )
