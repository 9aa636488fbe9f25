"""train-eval-mode, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import TRAIN, asked, edited, loop_findings

ID = "train-eval-mode"
BACK = ("    model.train()\n", "")
BROKEN = {
    "never back in train mode": edited(BACK),
    "validated in train mode": edited(("    model.eval()\n", "")),
    "trained in eval mode throughout": edited(("    model.train()\n", ""), ("epochs = 8\n", "epochs = 8\nmodel.eval()\n")),
    "validated in train mode without a loader": edited(
        ("        for inputs, labels in val_loader:\n            hits +=", "        hits ="),
        ("(model(inputs).argmax(1) == labels).sum().item()", "(model(x[96:]).argmax(1) == y[96:]).sum().item()"),
        ("    for inputs, labels in train_loader:\n", "    for inputs, labels in zip(x[:96].split(16), y[:96].split(16)):\n"),
        ("    model.eval()\n", ""),
    ),
}  # fmt: skip
NEAR = {
    "a batch norm frozen on purpose": edited(("    model.train()\n", "    model.train()\n    model[1].eval()\n")),
    "Monte Carlo dropout": edited(
        ("    model.eval()\n", "    model.train()\n"),
        ("hits += (model(inputs).argmax(1)", "hits += (sum(model(inputs) for _ in range(5)).argmax(1)"),
        ("nn.BatchNorm1d(32)", "nn.LayerNorm(32)"),
    ),
    "dropout layers woken for the validation": edited(("    model.eval()\n", "    model.eval()\n    model[3].train()\n")),
    "the loss on the training data in train mode": edited(
        ("    model.eval()\n", "    with torch.no_grad():\n        for inputs, labels in train_loader:\n"
         "            F.cross_entropy(model(inputs), labels).item()\n    model.eval()\n"),
    ),
    "an averaged copy is validated": edited(
        ("epochs = 8\n", "epochs = 8\nimport copy\naverage = copy.deepcopy(model)\n"),
        ("    model.eval()\n", ""),
        ("(model(inputs).argmax(1)", "(average(inputs).argmax(1)"),
    ),
    "no layer knows the mode": edited(
        BACK, ("    model.eval()\n", ""), ("nn.BatchNorm1d(32)", "nn.LayerNorm(32)"), ("nn.Dropout(0.2)", "nn.Dropout(0.0)")
    ),
    "a validation with gradients": edited(("    with torch.no_grad():\n", "    if True:\n")),
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_wrong_mode_is_the_first_finding(text: str, tmp_path: Path) -> None:
    assert loop_findings(text, tmp_path)[:1] == [ID]


def test_what_it_advises_helps(tmp_path: Path) -> None:
    back = edited(
        ("    for inputs, labels in train_loader:\n", "    model.train()\n    for inputs, labels in train_loader:\n"),
        text=edited(BACK),
    )
    result = asked(back, tmp_path, ID)
    assert result.findings == []
    assert result.status(ID) == "pass"


def test_the_healthy_script_passes_every_check_of_the_loop(tmp_path: Path) -> None:
    assert loop_findings(TRAIN, tmp_path) == []


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_is_no_finding(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == ("skip" if name == "no layer knows the mode" else "pass")


def test_both_places_are_the_users_lines(tmp_path: Path) -> None:
    text = edited(BACK)
    check = asked(text, tmp_path, ID).results[0].check(ID)
    assert [place.source for place in check.verdict.places] == [
        "loss = F.cross_entropy(model(inputs), labels)",
        "model.eval()",
    ]
