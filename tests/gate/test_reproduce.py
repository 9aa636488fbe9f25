"""`reproduce.py` shows the first finding with torch alone. Of every sick example and its twin: tests/test_examples.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.registry import catalogue
from nncheck.report.json import from_json
from nncheck.reproduce.compose import reproduction, shown_by_a_script
from tests.capture.scripts import TRAIN
from tests.gate.reproducing import run_script, script_for

DATA = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x.sum(1) > 0).long()
"""

FILES = {
    "builders": (
        DATA
        + """
train_set = TensorDataset(x, y)

def build_model(width=16):
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
    nn.init.normal_(model[2].weight, std=30.0)
    return model

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)

criterion = nn.CrossEntropyLoss()
"""
    ),
    "a recipe": (
        DATA
        + """
import nncheck

def network():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    nn.init.normal_(model[2].weight, std=30.0)
    return model

setup = nncheck.Recipe(
    model=network, train_loader=DataLoader(TensorDataset(x, y), batch_size=32), loss_fn=nn.CrossEntropyLoss(),
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
)
"""
    ),
    "a training step": (
        DATA
        + """
def get_loaders():
    return DataLoader(TensorDataset(x, y), batch_size=32), DataLoader(TensorDataset(x, y), batch_size=64)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        nn.init.normal_(self.layers[2].weight, std=30.0)

    def forward(self, x):
        return self.layers(x)

def training_step(model, batch, batch_idx):
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)
"""
    ),
}  # fmt: skip

SCRIPTS = {
    "zero-grad": TRAIN.replace("            optimizer.zero_grad()\n", ""),
    "double-softmax": TRAIN.replace("nn.Linear(16, 2))", "nn.Linear(16, 2), nn.Softmax(1))"),
    "graph-retention": TRAIN.replace("    for epoch", "    total = 0\n    for epoch").replace(
        "            optimizer.step()\n", "            optimizer.step()\n            total += loss\n"
    ),
    "train-eval-mode": TRAIN.replace("nn.ReLU(), nn", "nn.ReLU(), nn.Dropout(0.2), nn").replace(
        "    for epoch", "    model.eval()\n    for epoch"
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _found(text: str, id: str, *after: str, name: str = "model.py") -> str:
    Path(name).write_text(text, encoding="utf-8")
    CliRunner().invoke(
        app, ["run", name, "--select", id, "--no-report", "--json", "r.json", "--bundle", "b.zip", *after]
    )
    return script_for(Path("r.json"), id)


@pytest.mark.parametrize("how", FILES)
def test_parts_are_bound_as_the_file_has_them(how: str) -> None:
    script = _found(FILES[how], "loss-at-init")
    assert run_script(script, Path("model.py"))[0] == 1
    Path("model.py").write_text(FILES[how].replace("std=30.0", "std=0.1"), encoding="utf-8")
    code, said = run_script(script, Path("model.py"))
    assert code == 0, said
    assert "by chance it is 0.6931" in said


@pytest.mark.parametrize("id", SCRIPTS)
def test_a_script_shows_its_fault(id: str) -> None:
    script = _found(SCRIPTS[id], id, "--", "--lr", "0.02", name="train.py")
    assert "ARGUMENTS = ['--lr', '0.02']" in script
    code, said = run_script(script, Path("train.py"))
    assert code == 1, said
    healthy = TRAIN.replace("nn.ReLU(), nn", "nn.ReLU(), nn.Dropout(0.2), nn")
    Path("train.py").write_text(healthy, encoding="utf-8")
    code, said = run_script(script, Path("train.py"))
    assert code == 0, said


def test_where_a_loop_cannot_be_asked_the_script_stands_at_its_first_step() -> None:
    _found(SCRIPTS["double-softmax"], "double-softmax", name="train.py")
    (target,) = from_json(Path("r.json").read_text()).targets
    bare = dataclasses.replace(target, set_up="FILE = 'train.py'\nARGUMENTS = []\n")
    script = reproduction(bare, target.check("double-softmax"), seed="0", folder="")
    assert script is not None
    code, said = run_script(script, Path("train.py"))
    assert code == 2
    assert "optimizer = Adam" in said
    assert "stands before its first optimizer step" in said


def test_what_cannot_be_tried_is_neither_shown_nor_gone() -> None:
    script = _found(FILES["builders"], "loss-at-init")
    Path("model.py").write_text("import torch\nraise ValueError('no data here')\n", encoding="utf-8")
    code, said = run_script(script, Path("model.py"))
    assert code == 2
    assert "no data here" in said


def test_every_check_has_a_script() -> None:
    """But for what a person has to look at: a metric's own definition."""
    assert {entry.id for entry in catalogue()} - shown_by_a_script() == {"metric-definition"}
