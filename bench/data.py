"""The data stage on a loader of a million samples: time and memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.memory import peak
from bench.tables import table
from nncheck.recipe import Recipe, Setup
from nncheck.registry import select
from nncheck.runner import run_target
from nncheck.target.assemble import assemble
from nncheck.verdict import Status

SAMPLES = 1_000_000


class Items(Dataset[tuple[Tensor, Tensor]]):
    """Samples made when they are asked for, one by one, as from files: nothing is held."""

    def __init__(self, count: int, width: int, *, first: int = 0) -> None:
        self.count, self.width, self.first = count, width, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        x = torch.randn(self.width, generator=torch.Generator().manual_seed(self.first + index))
        return x, (x[:8].sum() > 0).long()


def setup(width: int) -> Setup:
    """A small classifier on `SAMPLES` samples of `width` features, with a tenth as many for validation."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 2))
    return assemble(
        Recipe(
            model=model,
            train_loader=DataLoader(Items(SAMPLES, width), batch_size=256, shuffle=True),
            val_loader=DataLoader(Items(SAMPLES // 10, width, first=SAMPLES), batch_size=256),
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        )
    )


def worker(width: int) -> None:
    """Print seconds of the data stage and of the whole run, the peak of this process in MiB, and how many checks were asked."""
    made = setup(width)
    begun = time.monotonic()
    result = run_target("data", made, selected=select(("data",), ()), seed=0, device=torch.device("cpu"))
    data = time.monotonic() - begun
    whole = run_target("all", made, selected=select((), ()), seed=0, device=torch.device("cpu"))
    bad = sum(check.status in (Status.FAIL, Status.WARN, Status.ERROR) for check in (*result.checks, *whole.checks))
    print(data, time.monotonic() - begun - data, peak(), len(result.checks), bad)


def measure() -> str:
    """One row a width."""
    rows = []
    for width in (16, 784):
        command = [sys.executable, "-c", f"from bench.data import worker; worker({width})"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        data, whole, most, asked, bad = map(float, found)
        rows.append(
            [
                f"{SAMPLES:,} x {width}",
                f"{data:.1f} s",
                f"{whole:.1f} s",
                f"{most:.0f} MiB",
                f"{asked:.0f}",
                f"{bad:.0f}",
            ]
        )
    head = ["samples x features", "data stage", "all checks", "peak of the process", "data checks", "findings"]
    return table("A million samples (limit: 1 GiB with torch itself in it)", head, rows)
