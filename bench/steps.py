"""Training-step equivalents of every example, by probe."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from statistics import median

import torch

from bench.tables import table
from nncheck.recipe import Setup
from nncheck.registry import select
from nncheck.runner import run_target
from nncheck.target import load_target
from nncheck.target.assemble import assemble
from nncheck.target.loading import isolated
from nncheck.verdict import TargetResult

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# The runs that train, each with a column of its own. The short run is input-baseline's run on the real inputs; the rehearsal serves
# every other check of the learning stage.
RUNS = ("overfit", "short_run", "input_baseline", "rehearsal", "rate_range")


def load(path: Path) -> Setup:
    """An example's live objects; what it prints is not shown."""
    with contextlib.redirect_stdout(io.StringIO()), isolated():
        return assemble(load_target(str(path)).recipe)


def check(name: str, setup: Setup, *, ignore: tuple[str, ...] = ()) -> TargetResult:
    """Every check of one set-up, as `nncheck run` asks them."""
    return run_target(name, setup, selected=select((), ignore), seed=0, device=torch.device("cpu"))


def measure() -> str:
    """One row an example, and the medians."""
    rows: list[list[str]] = []
    costs: list[list[float]] = []
    for path in sorted(EXAMPLES.glob("*.py")):
        setup = load(path)
        begun = time.monotonic()
        result = check(path.name, setup)
        seconds = time.monotonic() - begun
        own = [result.cost.by_probe.get(name, 0.0) for name in RUNS]
        costs.append([result.cost.train_steps - sum(own), *own, result.cost.train_steps, seconds])
        rows.append([path.name, *(f"{c:.1f}" for c in costs[-1]), ", ".join(result.findings) or "none"])
    rows.append(["median", *(f"{median(c):.1f}" for c in zip(*costs, strict=True)), ""])
    head = ["example", "all others", *(name.replace("_", " ") for name in RUNS), "total", "seconds", "findings"]
    return table(
        "Training-step equivalents of the whole catalogue (limits: 250 in the median, 500 at most)", head, rows
    )
