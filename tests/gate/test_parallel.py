"""Several targets of one run: side by side, each in a process of its own, and none takes another with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nncheck.config import Config
from nncheck.process.plain import packed, unpacked
from nncheck.process.session import Job, distinct
from nncheck.verdict import passed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="targets are checked in sequence without fork")

SOUND = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 8)
y = (x @ torch.randn(8, 4)).argmax(1)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
train_loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
LOST = """
import ctypes, signal, time

class Lost(nn.Linear):
    def forward(self, x):
        if not self.training:
            {what}
        return super().forward(x)

model = Lost(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
HANG = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(1000)"

# The command with a target's work replaced by a function of the test's own, so that no torch is needed.
FAKE = """
import os, signal, sys, time
import nncheck.process.nursery as nursery, nncheck.process.supervisor as supervisor
from nncheck.registry import catalogue
from nncheck.verdict import CheckResult, Cost, TargetResult, passed

nursery._import_all = lambda several: None
supervisor.GRACE_SECONDS = 0.2
entries = catalogue()[:3]

def parts(name, *checks):
    return TargetResult(target=name, model="Net", parameters=1, loss="L", optimizer="SGD", bound=(f"model of {{name}}",),
        notes=(), checks=checks, findings=(), seconds=0.1, cost=Cost())

def work(job, options, tell, *, output, deadline):
    name = job.target
    tell("parts", parts(name))
    results = []
    for entry in entries:
        tell("started", entry.id, str(entry.stage))
        step(name, entry.id)
        results.append(CheckResult(id=entry.id, stage=entry.stage, verdict=passed(f"fine in {{name}}"), seconds=0.0, doc=entry.doc))
        tell("check", results[-1])
    tell("result", parts(name, *results))

nursery.check_job = work
{step}
from nncheck.cli import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for name in "abc":
        Path(f"{name}.py").write_text(SOUND)


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, "run", *arguments, "--no-report", "--json", "r.json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ) | environment,
    )  # fmt: skip


def fake(step: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(FAKE.format(step=textwrap.dedent(step)), *arguments, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def targets() -> dict[str, Any]:
    return {target["target"]: target for target in json.loads(Path("r.json").read_text())["targets"]}


def test_a_crash_and_a_hang_leave_the_others_whole() -> None:
    Path("a.py").write_text(SOUND + LOST.format(what="ctypes.string_at(0)"))
    Path("b.py").write_text(SOUND + LOST.format(what=HANG))
    code = "import nncheck.process.supervisor as s, sys; s.GRACE_SECONDS = 1.0; from nncheck.cli import main; sys.exit(main())"
    process = start(
        code, "a.py", "b.py", "c.py", "--jobs", "2", "--select", "forward-pass,eval-mode,symmetry", "--budget", "40"
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    said = targets()
    assert list(said) == ["a.py", "b.py", "c.py"]
    assert [check["status"] for check in said["c.py"]["checks"]] == ["pass", "pass", "pass"]
    assert said["c.py"]["verdict"] == "pass"
    assert "the process was ended by SIGSEGV" in out
    assert "the process did not end 1 s after the budget of 40 s" in out
    for name in ("a.py", "b.py"):
        assert said[name]["verdict"] == "error"
        checks = {check["id"]: check["status"] for check in said[name]["checks"]}
        assert checks in ({}, {"forward-pass": "pass", "symmetry": "pass", "eval-mode": "error"})


def test_a_target_that_takes_more_than_its_share_of_the_time_does_not_keep_the_others_waiting() -> None:
    step = 'def step(name, check):\n    if name == "a.py" and check == entries[1].id: time.sleep(100)'
    code, out, err = fake(step, "a.py", "b.py", "c.py", "--jobs", "1", "--budget", "3")
    assert code == 2, err
    said = targets()
    assert [said[name]["verdict"] for name in ("a.py", "b.py", "c.py")] == ["error", "pass", "pass"]
    statuses = [check["status"] for check in said["a.py"]["checks"]]
    assert statuses[:2] == ["pass", "error"]
    assert set(statuses[2:]) == {"skip"}
    assert out.index("model of a.py") < out.index("model of b.py") < out.index("model of c.py")


def test_no_more_run_at_once_than_asked_and_their_lines_do_not_mix() -> None:
    step = """
    def step(name, check):
        with open("log", "a") as log: log.write("+")
        time.sleep(0.1)
        with open("log", "a") as log: log.write("-")
    """
    for name in "def":
        Path(f"{name}.py").write_text("")
    code, out, err = fake(step, *(f"{name}.py" for name in "abcdef"), "--jobs", "2")
    assert code == 0, err
    depths = [0]
    for sign in Path("log").read_text():
        depths.append(depths[-1] + (1 if sign == "+" else -1))
    assert max(depths) == 2
    assert list(targets()) == [f"{name}.py" for name in "abcdef"]
    assert "6 targets, 2 at a time" in out
    for block in out.split("\ntarget · ")[1:]:
        name = block.splitlines()[0]
        assert f"model of {name}" in block
        assert block.count(f"fine in {name}") == block.count("fine in") == 3


def test_what_one_target_does_never_reaches_another() -> None:
    step = """
    def step(name, check):
        seen = [os.environ.get("LEFT"), os.getcwd(), sys.modules.get("left"), os.environ.get("OMP_NUM_THREADS")]
        os.environ["LEFT"], sys.modules["left"] = "x", 1
        if check == entries[0].id:
            open(f"{name}.seen", "w").write(repr(seen))
            os.chdir("/")
    """
    code, _, err = fake(step, "a.py", "b.py", "--jobs", "2", OMP_NUM_THREADS="3")
    assert code == 0, err
    for name in "ab":
        assert Path(f"{name}.py.seen").read_text() == repr([None, os.getcwd(), None, "3"])


def test_targets_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    step = """
    supervisor.cores = lambda: 8
    def step(name, check):
        open(f"{name}.seen", "w").write(os.environ.get("OMP_NUM_THREADS", "all"))
    """
    assert fake(step, "a.py", "b.py")[0] == 0
    assert [Path(f"{name}.py.seen").read_text() for name in "ab"] == ["4", "4"]
    assert fake(step, "a.py")[0] == 0
    assert Path("a.py.seen").read_text() == "all"


def test_ctrl_c_ends_those_at_work_and_begins_no_other() -> None:
    step = """
    def step(name, check):
        if check == entries[1].id:
            open(f"{name}.waiting", "w").close()
            time.sleep(100)
    """
    process = start(FAKE.format(step=textwrap.dedent(step)), "a.py", "b.py", "c.py", "--jobs", "2")
    end = time.monotonic() + 30
    while not (Path("a.py.waiting").exists() and Path("b.py.waiting").exists()):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert not Path("c.py.waiting").exists()
    assert json.loads(Path("r.json").read_text())["outcome"] == "interrupted"


def test_a_fault_of_our_own_in_one_target_is_told_as_one() -> None:
    step = 'def step(name, check):\n    if name == "a.py": raise ZeroDivisionError("our own fault")'
    code, _, err = fake(step, "a.py", "b.py", "--jobs", "2")
    assert code == 2
    assert "nncheck failed in its own code; please report this" in err
    assert "our own fault" in err
    assert targets()["b.py"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("what", "message"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"), ("1 / 0", "ZeroDivisionError")],
)
def test_where_torch_cannot_be_imported_every_target_says_so(what: str, message: str) -> None:
    step = f"def step(name, check): pass\ndef broken(several):\n    {what}\nnursery._import_all = broken"
    code, out, err = fake(step, "a.py", "b.py")
    assert code == 2
    assert message in out + err


def test_a_target_named_twice_is_run_once(tmp_path: Path) -> None:
    Path("folder").mkdir()
    Path("folder/a.py").symlink_to(tmp_path / "a.py")
    names = [
        "a.py",
        "./a.py",
        str(tmp_path / "a.py"),
        "a.py:model",
        "a.py:make",
        "b.py",
        "pkg.mod",
        "pkg.mod",
        "folder/a.py",
    ]
    jobs = [Job(target=name, selected=frozenset(), config=Config()) for name in names]
    assert [job.target for job in distinct(jobs)] == ["a.py", "a.py:model", "a.py:make", "b.py", "pkg.mod"]


def test_what_is_told_between_processes_needs_nobody_elses_modules() -> None:
    class Name(str):
        """Such as a version of torch's."""

    class Odd:
        def __str__(self) -> str:
            return "odd"

    event = (
        "check",
        Name("x"),
        np.float64(0.5),
        np.float32(0.5),
        np.int64(3),
        {Name("a"): (True, None)},
        Odd(),
        passed("fine"),
    )
    back = unpacked(packed(event))
    assert back == ("check", "x", 0.5, 0.5, 3, {"a": (True, None)}, "odd", passed("fine"))
    assert [type(value) for value in back[:6]] == [str, str, float, float, float, dict]
    assert b"numpy" not in packed(event)
