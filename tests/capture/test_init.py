"""`nncheck init train.py`: what is written from a script's own lines is a set-up that can be checked."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from tests.capture.scripts import TRAIN, files, with_lines

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.filterwarnings("ignore")]

EPOCH = """
def train_epoch(net, data, optim, args):
    total = 0.0
    for i, (inputs, labels) in enumerate(data):
        optim.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optim.step()
        total += loss.item()


def main():
"""
LOOP = TRAIN[TRAIN.index("        for inputs") : TRAIN.index("        torch.save")]
FLAT = TRAIN.replace("def main():\n", "if True:\n").replace('if __name__ == "__main__":\n    main()\n', "")

SCRIPTS = {
    "main()": TRAIN,
    "a function for an epoch": TRAIN.replace(LOOP, "        train_epoch(model, loader, optimizer, args)\n").replace(
        "def main():\n", EPOCH.strip("\n") + "\n"
    ),
    "all at module level": FLAT,
    "batches from a function": TRAIN.replace(
        "        for inputs, labels in loader:\n",
        "        for i in range(0, 96, 16):\n            inputs, labels = x[i : i + 16], torch.as_tensor(y[i : i + 16].tolist())\n",
    ).replace("    for epoch", "    def fetch(i):\n        return x[i : i + 16], y[i : i + 16]\n\n    for epoch").replace(
        "x[i : i + 16], torch.as_tensor(y[i : i + 16].tolist())", "fetch(i)"
    ),
    "a function for a step": TRAIN.replace(
        LOOP[LOOP.index("            optimizer.zero") :],
        "            total = train_step(model, (inputs, labels), optim=optimizer)\n",
    ).replace(
        "def main():\n",
        "def train_step(net, pair, optim, scale=1.0):\n    x, y = pair\n    optim.zero_grad()\n"
        "    loss = scale * nn.functional.cross_entropy(net(x), y)\n    go_back(loss)\n    optim.step()\n"
        "    return loss.item()\n\n\ndef go_back(value):\n    value.backward()\n\n\ndef main():\n",
    ),
    "accelerate": TRAIN.replace(
        "    for epoch", "    from accelerate import Accelerator\n    accelerator = Accelerator(cpu=True)\n"
        "    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)\n    for epoch",
    ).replace("loss.backward()", "accelerator.backward(loss)"),
    "hydra": TRAIN.replace("def main():\n", "@hydra.main(version_base=None, config_path=None)\ndef main(cfg):\n")
    .replace("import argparse\n", "import argparse\nimport hydra\n")
    .replace(TRAIN[TRAIN.index("    parser =") : TRAIN.index("    torch.manual")], "").replace("args.lr", "cfg.lr"),
    "a scaler and half precision": TRAIN.replace(
        TRAIN[TRAIN.index("            loss = ") : TRAIN.index("        torch.save")],
        "            with torch.autocast('cpu', dtype=torch.bfloat16):\n"
        "                loss = nn.functional.cross_entropy(model(inputs), labels)\n"
        "            scaler.scale(loss).backward()\n            scaler.step(optimizer)\n            scaler.update()\n",
    ).replace("    for epoch", "    scaler = torch.amp.GradScaler('cpu', enabled=False)\n    for epoch"),
}  # fmt: skip


def _init(text: str, *arguments: str) -> tuple[int, str]:
    Path("train.py").write_text(text)
    after = ["--", *arguments] if arguments else []
    result = CliRunner().invoke(app, ["init", "train.py", *after])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_written_runs_and_has_the_script_s_own_numbers(name: str) -> None:
    code, output = _init(SCRIPTS[name], *(("+lr=0.125",) if name == "hydra" else ("--lr", "0.125")))
    assert code == 0, output
    text = Path("nncheck_setup.py").read_text()
    assert "# Missing" not in text
    assert re.search(r"lr'?[=:] ?0\.125", text)
    assert "def training_step(model, batch):" in text
    assert re.search("return (loss|value)", text)
    assert "nncheck_setup.py" in files()
    result = CliRunner().invoke(app, ["run", "nncheck_setup.py", "--select", "forward-pass", "--no-report"])
    assert result.exit_code == 0, text + result.output
    assert "Adam" in result.output


def test_what_cannot_be_written_down_is_named() -> None:
    text = TRAIN.replace("loss.backward()", "go_back(*[loss])").replace(
        "def main():", "def go_back(loss):\n    loss.backward()\n\n\ndef main():"
    )
    code, output = _init(text)
    assert code == 0
    assert "fill in what is marked" in output
    written = Path("nncheck_setup.py").read_text()
    assert re.search(r"# Missing: the loss: backward is not called by the loop itself \(train\.py:\d+\)", written)
    compile(written, "nncheck_setup.py", "exec")


def test_a_script_that_cannot_be_run_is_read() -> None:
    code, output = _init(with_lines("torch.manual_seed", "raise RuntimeError('no data')"))
    assert code == 0
    assert "train.py was only read, for it could not be run:" in output
    assert "RuntimeError: no data" in output
    assert "nncheck.Recipe(" in Path("nncheck_setup.py").read_text()


def test_a_notebook_is_written_down_with_its_earlier_cells() -> None:
    body = TRAIN[TRAIN.index("import torch") : TRAIN.index("def main")]
    loop = TRAIN[TRAIN.index("    torch.manual_seed") : TRAIN.index("\n\nif __name__")]
    text = textwrap.dedent(loop).replace("args.lr", "0.125").split("for epoch", 1)
    cells = ["%matplotlib inline\n" + body, text[0], "for epoch" + text[1]]
    found = [{"cell_type": "code", "source": cell} for cell in cells]
    Path("train.ipynb").write_text(json.dumps({"cells": found, "nbformat": 4}))
    result = CliRunner().invoke(app, ["init", "train.ipynb"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["run", "nncheck_setup.py", "--select", "forward-pass", "--no-report"])
    assert result.exit_code == 0, Path("nncheck_setup.py").read_text() + result.output
    assert "Adam" in result.output
