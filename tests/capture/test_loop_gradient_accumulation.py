"""gradient-accumulation, through scripts that are run: small batches that a loop draws by itself, steps that come too seldom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import TRAIN, asked, edited

ID = "gradient-accumulation"

MICRO = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(160, 10)
y = (x @ torch.randn(10, 3)).argmax(1)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
accum_steps = 4


def get_batch():
    rows = torch.randint(160, (16,))
    return x[rows], y[rows]


for iteration in range(20):
    optimizer.zero_grad()
    for micro_step in range(accum_steps):
        inputs, labels = get_batch()
        loss = F.cross_entropy(model(inputs), labels)
        (loss / accum_steps).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
"""

STEP = "        optimizer.step()\n"
BROKEN = {
    "the step stands behind the loop over batches": edited((STEP, "    optimizer.step()\n")),
    "cleared for every small batch": edited(
        ("    optimizer.zero_grad()\n", ""), ("        inputs, labels = get_batch()\n",
         "        optimizer.zero_grad()\n        inputs, labels = get_batch()\n"), text=MICRO,
    ),
}  # fmt: skip
UNDIVIDED = edited(("(loss / accum_steps).backward()", "loss.backward()"), text=MICRO)
QUIET = {
    "a step for every batch": TRAIN,
    "small batches that are divided": MICRO,
    "divided afterwards": edited(
        ("(loss / accum_steps).backward()", "loss.backward()"),
        ("    nn.utils.clip", "    for p in model.parameters():\n        p.grad /= accum_steps\n    nn.utils.clip"),
        text=MICRO,
    ),
    "tasks whose losses are summed": edited(
        ("(loss / accum_steps).backward()", "loss.backward()"), ("for micro_step in range(accum_steps)", "for task in range(4)"),
        text=MICRO,
    ),
    "a closure that is called several times": edited(
        ("torch.optim.Adam(model.parameters(), lr=0.01)", "torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)"),
        ("    optimizer.zero_grad()\n    for micro_step in range(accum_steps):\n        inputs, labels = get_batch()\n"
         "        loss = F.cross_entropy(model(inputs), labels)\n        (loss / accum_steps).backward()\n"
         "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n",
         "    inputs, labels = get_batch()\n\n    def closure():\n        optimizer.zero_grad()\n"
         "        loss = F.cross_entropy(model(inputs), labels)\n        loss.backward()\n        return loss\n\n"
         "    optimizer.step(closure)\n"), text=MICRO,
    ),
    "the weights are moved between two passes": edited(
        ("    for micro_step in range(accum_steps):\n        inputs, labels = get_batch()\n",
         "    inputs, labels = get_batch()\n    for moved in (0.01, -0.01):\n        optimizer.zero_grad()\n"),
        ("        (loss / accum_steps).backward()\n",
         "        loss.backward()\n        for p in model.parameters():\n            p.data += moved\n"), text=MICRO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_of_several_batches_only_the_last_counts(name: str, tmp_path: Path) -> None:
    check = asked(BROKEN[name], tmp_path, ID).results[0].check(ID)
    assert check.status == "fail"
    assert [place.source for place in check.verdict.places][1:] == ["optimizer.step()"]


def test_losses_that_are_not_divided(tmp_path: Path) -> None:
    check = asked(UNDIVIDED, tmp_path, ID).results[0].check(ID)
    assert check.status == "warn"
    assert "4 times" in check.verdict.summary
    assert [place.source for place in check.verdict.places] == ["loss.backward()"]


@pytest.mark.parametrize("name", QUIET)
def test_what_is_meant_stays_silent(name: str, tmp_path: Path) -> None:
    assert asked(QUIET[name], tmp_path, ID).status(ID) in ("pass", "skip")
