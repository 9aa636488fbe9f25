"""A run inside GitHub Actions: annotations and summary come by themselves, and what the user's code prints stays text."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.report import golden

# Prints what would be commands to the runner, in every way there is; the fault is a loss that is cut off.
NOISY = """
import os, subprocess, sys
import torch
from torch import nn

class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        print("::error file=a.py::printed")
        print("##[error]printed in the old way", file=sys.stderr)
        sys.stderr.write("\\n::set-output name=verdict::pass\\n")
        os.write(1, b"\\n::error::past python\\n")
        subprocess.run([sys.executable, "-c", "print('::error::by a child')"], check=True)
        return self.layer(x)

model = Loud()
train_loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(torch.randn(64, 4), torch.randint(2, (64,))), batch_size=16, shuffle=True
)

def loss_fn(output, target):
    return nn.functional.cross_entropy(output, target)

if os.environ.get("RAISE"):
    raise ValueError("no such thing\\n::error::raised\\n##[error]raised")
"""


def _nncheck(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "nncheck", *arguments],
        cwd=folder,
        env={**environ, "GITHUB_ACTIONS": "true", "CI": "true", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that the runner obeys: those that begin with `::`, and `##[` anywhere."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


def test_what_user_code_prints_is_no_command(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    summary = tmp_path / "summary.md"
    summary.write_text("of an earlier command\n")
    done = _nncheck(
        tmp_path, "run", "noisy.py", "--select", "forward-pass,shuffle", "--no-report", GITHUB_STEP_SUMMARY=str(summary)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _commands(done) == []
    text = summary.read_text()
    assert text.startswith("of an earlier command\n## nncheck: No problem found by")


def test_an_exception_is_annotated_and_forges_nothing(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    done = _nncheck(tmp_path, "run", "noisy.py", "--no-report", "--full-traceback", RAISE="1")
    assert done.returncode == 2
    [command] = _commands(done)
    assert command.startswith("::error file=noisy.py,line=1,title=nncheck could not check noisy.py::")
    assert "ValueError" in command
    assert "::error%3A" not in command


def test_a_saved_result_is_shown_on_request_without_torch(tmp_path: Path) -> None:
    from nncheck.report.json import to_json

    (tmp_path / "r.json").write_text(to_json(golden.report()))
    summary = tmp_path / "summary.md"
    code = (
        "import sys; from nncheck.cli import main; sys.argv = ['nncheck', 'report', 'r.json', '-o', 'r.html', '--github'];"
        "code = main(); assert 'torch' not in sys.modules; raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(" ")[0] for line in _commands(done)] == ["::error"] * 4 + ["::warning"] * 2
    assert "loss starts at 4.87" in summary.read_text()
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == 1
