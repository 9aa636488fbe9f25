"""host-sync, through scripts that are run: each is the healthy one with a single edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import TRAIN, asked, edited, loop_findings

ID = "host-sync"
HITS = "(model(inputs).argmax(1) == labels).sum().item()"
STEP = "        optimizer.step()\n"
BROKEN = {
    "hits of a validation one by one": edited(
        (HITS, "sum(int(a == b) for a, b in zip(model(inputs).argmax(1), labels))")
    ),
    "outputs of the training one by one": edited(
        (STEP, STEP + "        shown = [float(row.max()) for row in model(inputs)]\n")
    ),
}
NEAR = {
    "one number a step": TRAIN,
    "moved together": edited(
        (HITS, "sum(int(a == b) for a, b in zip(model(inputs).argmax(1).cpu(), labels.cpu()))"),
    ),
    "a list": edited((HITS, "sum(a == b for a, b in zip(model(inputs).argmax(1).tolist(), labels.tolist()))")),
    "what the data ask of themselves": edited(
        ("    for inputs, labels in train_loader:\n", "    for inputs, labels in train_loader:\n"
         "        counts = [labels[i].item() for i in range(len(labels))]\n"),
    ),
    "some samples are shown at the end": edited(
        ("    print(epoch", "    print([p.item() for p in model(x[:20]).argmax(1)])\n    print(epoch"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_value_a_sample_is_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]


def test_the_line_is_named(tmp_path: Path) -> None:
    check = asked(BROKEN["outputs of the training one by one"], tmp_path, ID).results[0].check(ID)
    assert check.verdict.places[0].source == "shown = [float(row.max()) for row in model(inputs)]"


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_passes(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == "pass"
