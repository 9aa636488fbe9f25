"""graph-retention, through scripts that are run: each is the healthy one with a single fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.loop_script import asked, edited, loop_findings

ID = "graph-retention"
STEP = "        optimizer.step()\n"
BEGIN = "epochs = 8\n"
SMALL = ("batch_size=16", "batch_size=8")
HEALTHY = edited((STEP, STEP + "        losses.append(loss.item())\n"), (BEGIN, BEGIN + "losses = []\n"))
BROKEN = {
    "a list of losses": edited(("loss.item()", "loss"), text=HEALTHY),
    "a sum begun anew with each epoch": edited(
        SMALL, ("    model.train()\n", "    model.train()\n    total = 0\n"), (STEP, STEP + "        total += loss\n")
    ),
    "a running mean": edited((STEP, STEP + "        mean = 0.9 * mean + 0.1 * loss\n"), (BEGIN, BEGIN + "mean = 0\n")),
    "a meter": edited(
        (BEGIN, BEGIN + "class Meter:\n    total = 0\n    def add(self, value):\n        self.total += value\nmeter = Meter()\n"),
        (STEP, STEP + "        meter.add(loss)\n"),
    ),
}  # fmt: skip
NEAR = {
    "numbers": HEALTHY,
    "detached losses": edited(("loss.item()", "loss.detach()"), text=HEALTHY),
    "the last four": edited(
        ("losses = []", "import collections\nlosses = collections.deque(maxlen=4)"),
        ("loss.item()", "loss"),
        text=HEALTHY,
    ),
    "the graph is kept for a second pass": edited(
        ("        loss.backward()\n", "        loss.backward(retain_graph=True)\n        (0.1 * loss).backward()\n")
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_graphs_that_stay_are_the_first_finding(name: str, tmp_path: Path) -> None:
    assert loop_findings(BROKEN[name], tmp_path)[:1] == [ID]


def test_the_line_that_keeps_them_is_named(tmp_path: Path) -> None:
    check = asked(BROKEN["a list of losses"], tmp_path, ID).results[0].check(ID)
    assert [place.source for place in check.verdict.places] == ["losses.append(loss)"]


@pytest.mark.parametrize("name", NEAR)
def test_what_looks_alike_passes(name: str, tmp_path: Path) -> None:
    assert asked(NEAR[name], tmp_path, ID).status(ID) == "pass"
