"""The script goes on in another process: a copy of this one, or a new one; it says the same, and nothing is left of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from nncheck.capture import onward
from nncheck.capture.witnesses.modes import ModesSeen
from nncheck.capture.witnesses.optimizers import OptimizersSeen
from nncheck.capture.witnesses.schedules import SchedulesSeen
from nncheck.errors import CannotMeasure
from nncheck.lab.snapshot import seed_everything
from nncheck.target import use_target
from nncheck.target.loading import isolated
from tests.capture.loop_script import TRAIN, asked, edited

KINDS = (ModesSeen, OptimizersSeen, SchedulesSeen)
WRITES = edited(
    ("    scheduler.step()\n", "    torch.save(model.state_dict(), 'last.pt')\n    scheduler.step()\n"),
    ("epochs = 8\n", "epochs = 8\nimport pathlib; pathlib.Path('begun.txt').write_text('begun')\n"),
)


def _answers(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    (folder / "train.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    found: list[Any] = []

    def use(recipes: Any) -> None:
        witness = recipes[0].recipe.train_step.onward
        for kind in KINDS:
            try:
                found.append(witness.answer(kind))
            except CannotMeasure as reason:
                found.append(str(reason))

    with isolated():
        seed_everything(0)
        use_target("train.py", use, capture=True, cpu=True)
    return found


def _children() -> set[int]:
    """This process's children, the dead that nobody waited for included."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in children.read_text().split()}


def test_a_new_process_says_what_a_copy_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    folder = tmp_path / "run"
    scratch.mkdir()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = _children()
    copied = _answers(WRITES, folder, monkeypatch)
    monkeypatch.setattr(onward, "can_fork", lambda: False)
    (folder / "begun.txt").unlink()
    again = _answers(WRITES, folder, monkeypatch)
    assert copied == again
    assert copied[0].trained_train > 8
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["begun.txt", "train.py"]
    assert list(scratch.iterdir()) == []
    assert _children() == before


def test_a_script_that_ends_its_process_has_been_seen_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = edited(("    scheduler.step()\n", "    scheduler.step()\n    import os; os._exit(3)\n"))
    modes, _, schedules = _answers(text, tmp_path, monkeypatch)
    assert modes.trained_train == 6
    assert schedules.schedules[0].times == 1


def test_a_script_that_is_killed_is_told_as_such(tmp_path: Path) -> None:
    text = edited(
        (
            "    scheduler.step()\n",
            "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n    scheduler.step()\n",
        )
    )
    verdict = asked(text, tmp_path, "scheduler-step").results[0].check("scheduler-step").verdict
    assert verdict.why_skipped == "the script ended its process soon after its first step, by SIGKILL"


def test_what_ends_the_run_ends_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(TRAIN + "while True: pass\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = _children()

    def use(recipes: Any) -> None:
        assert len(_children() - before) == 1
        raise KeyboardInterrupt

    with isolated(), pytest.raises(KeyboardInterrupt):
        use_target("train.py", use, capture=True, cpu=True)
    assert _children() == before
