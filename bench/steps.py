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
# The steps of overfit-batch and input-baseline themselves; the short run is input-baseline's run on the real inputs.
LEARNING = ("overfit", "input_baseline", "short_run")


def load(path: Path) -> Setup:
    """An example's live objects; what it prints is not shown."""
    with contextlib.redirect_stdout(io.StringIO()), isolated():
        return assemble(load_target(str(path)).recipe)


def check(name: str, setup: Setup, *, ignore: tuple[str, ...] = ()) -> TargetResult:
    """Every check of one set-up, as `nncheck run` asks them."""
    return run_target(name, setup, selected=select((), ignore), seed=0, device=torch.device("cpu"))


def measure() -> str:
    """Two tables: one row an example, then the cost of each probe in the median."""
    rows, costs = [], []
    for path in sorted(EXAMPLES.glob("*.py")):
        setup = load(path)
        begun = time.monotonic()
        result = check(path.name, setup)
        seconds = time.monotonic() - begun
        by_probe = result.cost.by_probe
        own = {name: by_probe.get(name, 0.0) for name in LEARNING}
        rest = result.cost.train_steps - sum(own.values())
        costs.append((rest, own["short_run"], own["overfit"], own["input_baseline"], result.cost.train_steps, seconds))
        rows.append([path.name, *(f"{c:.1f}" for c in costs[-1]), ", ".join(result.findings) or "none"])
    rows.append(["median", *(f"{median(c):.1f}" for c in zip(*costs, strict=True)), ""])
    head = ["example", "all others", "short run", "overfit-batch", "input-baseline", "total", "seconds", "findings"]
    return table("Training-step equivalents (limits: 25 for all others, 120 for the total in the median)", head, rows)
