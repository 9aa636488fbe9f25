"""Notebooks: cells up to the first step, magics taken out, places by cell and line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.capture.notebook import python_of
from nncheck.cli import app

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.filterwarnings("ignore")]

CELLS = (
    "%matplotlib inline\n!touch made\nimport torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader, TensorDataset",
    "%%bash\ntouch made",
    "torch.manual_seed(0)\nx = torch.randn(96, 8)\ny = (x.sum(1) > 0).long()\nx?\n"
    "loader = DataLoader(TensorDataset(x, y), 16, shuffle=True)",
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.first = nn.Linear(8, 16)\n"
    "        self.last = nn.Linear(16, 2)\n\n    def forward(self, x):\n        return self.last(torch.relu(self.first(x)))\n\n"
    "model = Net()\ndisplay(model)\noptimizer = torch.optim.Adam(model.parameters())",
    "%%time\nfor epoch in range(2):\n    for inputs, labels in loader:\n        optimizer.zero_grad()\n"
    "        loss = nn.functional.cross_entropy(model(inputs), labels)\n        loss.backward()\n        optimizer.step()",
    "torch.save(model, 'late.pt')",
)


def _run(cells: tuple[str, ...], *options: str) -> tuple[int, str]:
    found = [{"cell_type": "markdown", "source": ["# Training"]}]
    found += [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in cells]
    Path("train.ipynb").write_text(json.dumps({"cells": found, "nbformat": 4}))
    result = CliRunner().invoke(app, ["run", "train.ipynb", "--no-report", *(options or ("--select", "forward-pass"))])
    return result.exit_code, result.output


def test_a_notebook_is_run_to_its_first_step() -> None:
    code, output = _run(CELLS)
    assert code == 0, output
    assert "ran to the first step of Adam (train.ipynb cell 5:7)" in output
    assert (
        "its own loop (train.ipynb cell 5:3-7) is the training step: it gives the first loss again to the last bit"
        in output
    )
    assert [path.name for path in Path().iterdir()] == ["train.ipynb"]


def test_a_finding_names_the_cell_of_a_layer() -> None:
    cells = tuple(text.replace("= Net()", "= Net()\nnn.init.constant_(model.first.weight, 0.1)") for text in CELLS)
    _, output = _run(cells, "--select", "symmetry")
    assert re.search(r"train\.ipynb cell 4:4.*\n.*self\.first = nn\.Linear\(8, 16\)", output), output


@pytest.mark.parametrize(
    ("number", "old", "new", "said"),
    [
        (
            2,
            "x?",
            "raise ValueError('bad cell')",
            r"ValueError: bad cell\n    train\.ipynb cell 3:4  in <module>  raise",
        ),
        (2, "x?", "x = = 3", r"train\.ipynb cell 3 is not valid Python: invalid syntax\n.*cell 3:4"),
        (3, "nn.Linear(8, 16)", "nn.Linear(9, 16)", r"cell 5:5  in <module>.*\n    train\.ipynb cell 4:8  in forward"),
    ],
)
def test_an_error_is_told_with_its_cell(number: int, old: str, new: str, said: str) -> None:
    code, output = _run(tuple(text.replace(old, new) if i == number else text for i, text in enumerate(CELLS)))
    assert code == 2
    assert re.search(said, output), output


def test_what_is_no_notebook_and_what_may_not_be_run() -> None:
    assert _run(CELLS, "--no-capture")[0] == 2
    Path("other.ipynb").write_text("hello")
    result = CliRunner().invoke(app, ["run", "other.ipynb", "--no-report"])
    assert (result.exit_code, "is not a notebook of format 4" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%time x = 1", "pass  # %time x = 1\n"),
        ("    !ls {folder}", "    pass  # !ls {folder}\n"),
        ("files = !ls *.csv", "files = []  # !ls *.csv\n"),
        ("%cd data", "__import__('os').chdir('data')\n"),
        ("%env SEED=3", "__import__('os').environ['SEED'] = '3'\n"),
        ("x = 7 % y", "x = 7 % y\n"),
        ("model??", "pass  # model??\n"),
        ('text = """\n%d apples\n"""', 'text = """\n%d apples\n"""\n'),
        ("%%writefile net.py\nclass Net: ...", ""),
        ("%%timeit\nf()", "\nf()\n"),
    ],
)
def test_magics_are_taken_out_line_for_line(cell: str, python: str) -> None:
    assert python_of(cell) == python
