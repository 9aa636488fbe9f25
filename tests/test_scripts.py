"""The scripts of the corpus: registered rightly, and each one's first loss had again from its own loop."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nncheck.registry import catalogue
from tests.scripts import FILES, ScriptCase, scripts

CASES = scripts()
# What no run in one process can have again: steps in child processes, and a world that has gone on by the time it is asked.
BEYOND = {
    "hogwild_digits": "takes its steps in child processes",
    "cartpole_reinforce": "could not be asked again",
}


def test_there_are_enough_scripts_with_enough_faults() -> None:
    assert len(CASES) >= 30
    assert all(len(case.faults) >= 2 for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_faults_are_single_edits_that_leave_valid_python(case: ScriptCase) -> None:
    known = {entry.id for entry in catalogue()}
    text = case.path.read_text(encoding="utf-8")
    for fault in case.faults:
        assert set(fault.expected) <= known, fault.name
        planted = fault.planted(text)
        assert planted != text
        if case.path.suffix == ".py":
            ast.parse(planted)
        else:
            json.loads(planted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_first_loss_comes_again(case: ScriptCase, tmp_path: Path) -> None:
    missing = [name for name in case.needs if importlib.util.find_spec(name) is None]
    assert not missing, "the development environment has every package that a script needs"
    shutil.copy(case.path, tmp_path)
    for beside in case.beside:
        source = FILES / beside
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / beside)
    before = {path.name for path in tmp_path.iterdir()}
    done = subprocess.run(
        [
            sys.executable, "-m", "nncheck", "run", case.path.name, "--no-report", "--select", "forward-pass", "--json", "-",
            "--", *case.arguments,
        ],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    result = json.loads(done.stdout)
    if case.name in BEYOND:
        assert done.returncode == 2
        assert BEYOND[case.name] in result["targets"][0]["problem"]
        return
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    notes = [note for target in result["targets"] for note in target["notes"]]
    assert any("to the last bit" in note for note in notes), notes
    told = " ".join(note for note in notes if note.startswith("it wrote"))
    left = {path.name for path in tmp_path.iterdir()} - before
    assert all(name in told for name in left), f"{left} is left behind, and told is: {told}"
