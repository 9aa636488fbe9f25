"""validation-data, through scripts that are run: each is the healthy one with a single fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import TRAIN, asked, edited, loop_findings

ID = "validation-data"
LOOK = "        for inputs, labels in val_loader:\n"
HITS = "            hits += (model(inputs).argmax(1) == labels).sum().item()\n"
BROKEN = {
    "the loader of the validation holds the training part": edited(
        ("val_loader = DataLoader(TensorDataset(x[96:], y[96:])", "val_loader = DataLoader(TensorDataset(x[:96], y[:96])")
    ),
    "the validation goes through the training loader": edited(
        (LOOK, LOOK.replace("val_loader", "train_loader")), ("len(val_loader.dataset)", "96")
    ),
    "steps in the validation": edited(
        (LOOK, LOOK + "            with torch.enable_grad():\n                F.cross_entropy(model(inputs), labels).backward()\n"
         "            optimizer.step()\n"),
    ),
}  # fmt: skip
NEAR = {
    "two parts of one data set": edited(
        ("val_loader = DataLoader(TensorDataset(x[96:], y[96:])",
         "from torch.utils.data import Subset\nval_loader = DataLoader(Subset(TensorDataset(x, y), range(96, 160))"),
    ),
    "training accuracy beside a validation": edited(
        (LOOK, "        for inputs, labels in train_loader:\n            model(inputs)\n" + LOOK),
    ),
    "training accuracy alone": edited(
        (LOOK, LOOK.replace("val_loader", "train_loader")),
        ("val_loader = DataLoader(TensorDataset(x[96:], y[96:]), batch_size=32)\n", ""),
        ("len(val_loader.dataset)", "96"),
    ),
    "no validation": edited((LOOK + HITS, "        pass\n")),
    "one batch of the validation in each step": edited(
        ("        optimizer.step()\n", "        optimizer.step()\n        with torch.no_grad():\n"
         "            model(next(iter(val_loader))[0])\n"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_validation_and_training_that_share_are_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]


def test_the_loop_of_the_validation_is_named(tmp_path: Path) -> None:
    check = asked(BROKEN["the validation goes through the training loader"], tmp_path, ID).results[0].check(ID)
    place = check.verdict.places[0]
    assert place.source == "for inputs, labels in train_loader:"
    assert place.line == TRAIN.splitlines().index(LOOK.rstrip()) + 1


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_passes(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == "pass"
