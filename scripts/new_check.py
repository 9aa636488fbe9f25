"""Write the files of a new check: `python scripts/new_check.py ID STAGE`. Nothing that exists is overwritten."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nncheck.registry import slug_to_name  # noqa: E402  # the checkout, not what may be installed
from nncheck.verdict import Stage  # noqa: E402

CHECK = '''"""One sentence: what is wrong when this check speaks.

What it does
    Which evidence it reads and what it compares it with.
Why it matters
    What happens to a training that has this fault.
How to fix
    The change, in the user's own code.
Known limits
    What it does not see, and what it leaves alone on purpose.
Source
    Who described it first.
"""

from nncheck.probes.{name} import {evidence}
from nncheck.registry import check
from nncheck.verdict import Stage, Verdict, failed, passed

# Where the number comes from: the formula, or what was measured on what.
LIMIT = 1.0


@check(stage=Stage.{stage}, after=("forward-pass", "finite-values"))
def {name}(seen: {evidence}) -> Verdict:
    measured = f"the loss of the first batch is {{seen.loss:.3g}}"
    if seen.loss <= LIMIT:
        return passed(measured)
    return failed(measured, expected=f"at most {{LIMIT:g}}")
'''

PROBE = '''"""What is measured, in one sentence."""

from dataclasses import dataclass

from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@dataclass(frozen=True, kw_only=True)
class {evidence}:
    """What was seen: plain numbers and names, no tensors."""

    loss: float


@probe
def {name}(sandbox: Sandbox) -> {evidence}:
    with sandbox.trial():
        outcome = sandbox.forward(sandbox.feed.first)
        return {evidence}(loss=float(outcome.loss.detach()))
'''

CASE = '''"""The fault on a small set-up. `broken` is `healthy` with one change."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _setup(scale: float) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    y = (x @ torch.randn(8, 2, generator=generator)).argmax(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_fn = nn.CrossEntropyLoss()
    data = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    return Recipe(
        model=model,
        train_loader=data,
        loss_fn=lambda output, target: scale * loss_fn(output, target),
        optimizer=optimizer,
    )


def healthy() -> Recipe:
    return _setup(1.0)


def broken() -> Recipe:
    return _setup(10.0)


def fixed() -> Recipe:
    """`broken` after doing what How to fix says."""
    return _setup(1.0)


def near_miss() -> Recipe:
    """Looks sick, is fine."""
    return _setup(0.5)
'''

TABLE = '''"""The judgement alone, on evidence made by hand."""

import pytest

from nncheck.checks.{stage_folder}.{name} import LIMIT, {name}
from nncheck.probes.{name} import {evidence}
from nncheck.verdict import Status


@pytest.mark.parametrize(
    ("loss", "status"),
    [(0.0, Status.PASS), (LIMIT, Status.PASS), (1.01 * LIMIT, Status.FAIL), (float("nan"), Status.FAIL)],
)
def test_{name}(loss: float, status: Status) -> None:
    assert {name}({evidence}(loss=loss)).status is status
'''


def main(arguments: list[str]) -> int:
    stages = [str(stage) for stage in Stage]
    if len(arguments) != 2 or arguments[1] not in stages or not re.fullmatch(r"[a-z]+(-[a-z]+)*", arguments[0]):
        print(f"usage: new_check.py ID STAGE   (ID in kebab-case, STAGE one of {', '.join(stages)})", file=sys.stderr)
        return 2
    id, stage = arguments
    name = slug_to_name(id)
    words = {
        "name": name,
        "stage": Stage(stage).name,
        "stage_folder": stage,
        "evidence": "".join(part.capitalize() for part in id.split("-")),
    }
    files = {
        f"nncheck/checks/{stage}/{name}.py": CHECK.format(**words),
        f"nncheck/probes/{name}.py": PROBE.format(**words),
        f"tests/cases/{name}.py": CASE,
        f"tests/checks/{stage}/test_{name}.py": TABLE.format(**words),
    }
    if there := [path for path in files if (ROOT / path).exists()]:
        print(f"new_check.py: {there[0]} exists already", file=sys.stderr)
        return 1
    for path, text in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(
        "next: write `broken`, watch today's checks miss it, then the probe, the check, its table, near misses; `make docs`"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
