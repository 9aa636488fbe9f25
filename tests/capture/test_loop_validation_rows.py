"""validation-data of scripts without a loader: rows that their own functions bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import asked, edited, loop_findings

ID = "validation-data"

ROWS = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(160, 10)
y = (x @ torch.randn(10, 3)).argmax(1)
x_train, y_train, x_valid, y_valid = x[:96], y[:96], x[96:], y[96:]
print(len(x_train), x_valid.shape)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def evaluate(inputs, labels):
    with torch.no_grad():
        return sum((model(inputs[i:i + 32]).argmax(1) == labels[i:i + 32]).sum().item() for i in range(0, len(inputs), 32))


for epoch in range(40):
    order = torch.randperm(96)
    for i in range(0, 96, 32):
        optimizer.zero_grad()
        rows = order[i:i + 32]
        loss = F.cross_entropy(model(x_train[rows]), y_train[rows])
        loss.backward()
        optimizer.step()
    print(epoch, evaluate(x_valid, y_valid) / len(x_valid))
"""

SCORE = "evaluate(x_valid, y_valid) / len(x_valid)"
BROKEN = {
    "the training rows are given": edited((SCORE, "evaluate(x_train, y_train) / len(x_train)"), text=ROWS),
    "both parts are cut from the same rows": edited(
        ("x[96:], y[96:]\n", "x[:64], y[:64]\n"), (SCORE, "(model(x_valid.requires_grad_(False)).argmax(1) == y_valid).sum()"),
        ("    print(epoch,", "    with torch.no_grad():\n      print(epoch,"), text=ROWS,
    ),
}  # fmt: skip
NEAR = {
    "the rows that were held out": ROWS,
    "the training score beside it": edited((SCORE, f"evaluate(x_train, y_train), {SCORE}"), text=ROWS),
    "nothing is held out": edited(
        ("x_train, y_train, x_valid, y_valid = x[:96], y[:96], x[96:], y[96:]", "x_train, y_train = x[:96], y[:96]"),
        (", x_valid.shape", ""), (SCORE, "evaluate(x_train, y_train) / len(x_train)"), text=ROWS,
    ),
    "whole numbers, which are often the same": edited(
        ("x = torch.randn(160, 10)", "x = torch.randint(2, (160, 2)).float()"), ("torch.randn(10, 3)", "torch.randn(2, 3)"),
        ("nn.Linear(10, 32)", "nn.Linear(2, 32)"), text=ROWS,
    ),
    "the test comes after the training": edited(
        (SCORE, "evaluate(x_train, y_train) / len(x_train)"), text=ROWS + "print(evaluate(x_valid, y_valid))\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_validation_on_training_rows_is_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_is_silent(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) in ("pass", "skip")
