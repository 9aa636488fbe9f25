"""A script that goes back from its losses to its end and never steps its optimizer is judged all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from nncheck.errors import TargetError
from tests.capture.loop_script import TRAIN, asked, edited

ID = "optimizer-step"
STEP = "        optimizer.step()\n"
FORGOTTEN = edited((STEP, ""))


@pytest.mark.parametrize("end", ["", "raise SystemExit\n", "import sys\nsys.exit(0)\n"])
def test_a_step_that_was_forgotten(end: str, tmp_path: Path) -> None:
    found = asked(FORGOTTEN + end, tmp_path, ID)
    check = found.results[0].check(ID)
    assert (check.status, found.reproduced) == ("fail", True)
    assert "no optimizer steps" in check.verdict.summary
    assert [place.source for place in check.verdict.places] == ["loss.backward()"]
    assert "ran to its end, and Adam never stepped" in found.found[0].notes[0]


def test_with_its_step_it_is_clean(tmp_path: Path) -> None:
    assert asked(TRAIN, tmp_path, ID).status(ID) == "pass"


@pytest.mark.parametrize(
    "text",
    [
        edited((STEP, ""), ("optimizer = torch.optim.Adam(model.parameters()", "optimizer = torch.optim.Adam([torch.ones(2)]")),
        FORGOTTEN + "raise SystemExit(2)\n",
        FORGOTTEN + "raise ValueError('x')\n",
    ],
    ids=["the optimizer holds nothing that is trained", "it failed", "an error ended it"],
)  # fmt: skip
def test_others_are_told_as_before(text: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        asked(text, tmp_path, ID)
