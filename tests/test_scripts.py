"""The scripts of the corpus: registered rightly, and each one's first loss had again from its own loop."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import warnings
from pathlib import Path

import pytest

from nncheck.errors import TargetError, explain
from nncheck.registry import catalogue
from nncheck.target import use_target
from nncheck.target.loading import isolated
from tests.scripts import FILES, ScriptCase, scripts

CASES = scripts()
# What no run in one process can have again: steps in child processes, and a world that has gone on by the time it is asked.
BEYOND = {
    "hogwild_digits": "takes its steps in child processes",
    "cartpole_reinforce": "could not be asked again",
}
# What most of them import, torch's optimizers included; the copies that run them have it from here. A library that takes a
# script's loop over is not among them: capture has to bear that it comes later.
COMMON = ("torch._dynamo", "sklearn.datasets", "sklearn.model_selection", "sklearn.preprocessing")


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    for name in COMMON:
        importlib.import_module(name)


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
    notes, problem = captured(case, tmp_path)
    if case.name in BEYOND:
        assert BEYOND[case.name] in problem
        return
    assert not problem
    assert any("to the last bit" in note for note in notes), notes
    told = " ".join(note for note in notes if note.startswith("it wrote"))
    left = {path.name for path in tmp_path.iterdir()} - before
    assert all(name in told for name in left), f"{left} is left behind, and told is: {told}"


def captured(case: ScriptCase, folder: Path) -> tuple[list[str], str]:
    """The notes of a script's set-ups, or why there are none; found in a copy of this process, which has torch already."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
        copy = os.fork()
    if not copy:
        try:
            answer: tuple[list[str], str] = ([], "")
            os.chdir(folder)
            silent = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(silent, descriptor)
            warnings.simplefilter("ignore")
            notes: list[str] = []
            try:
                with isolated():
                    use_target(
                        case.path.name, lambda found: notes.extend(note for one in found for note in one.notes),
                        capture=True, arguments=case.arguments,
                    )  # fmt: skip
                answer = (notes, "")
            except TargetError as error:
                answer = ([], explain(error))
            sender.send(answer)
        finally:
            os._exit(0)
    sender.close()
    try:
        found: tuple[list[str], str] = receiver.recv()
        return found
    finally:
        os.waitpid(copy, 0)
