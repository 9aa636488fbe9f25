"""A bundle holds what helps, the same bytes each time, and nothing that says who, where or with which data."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.report.scrub import scrubber

MODEL = """
import json
import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAR_AWAY = "constant-of-the-source"








values = torch.tensor(json.loads(Path("data.json").read_text())["values"]).reshape(-1, 4)
print("printed-by-the-code", Path("data.json").read_text()[:40])
print(os.environ["HUB_TOKEN"])
WEIGHT = json.loads(Path("data.json").read_text())["weight"]
labels = (values.sum(1) > values.sum(1).median()).long()
train_loader = DataLoader(TensorDataset((values - 5) / 3, labels), batch_size=32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.key = os.environ["HUB_TOKEN"]
        api_key = "beside-the-finding"
        self.head = nn.Linear(4, 2)
        nn.init.normal_(self.head.weight, std=50.0)
        self.head.weight.data[0, 0] = WEIGHT

    def forward(self, x):
        return self.head(x)


model = Net()
criterion = nn.CrossEntropyLoss()
"""
BROKEN = MODEL + '\nprint("printed-by-the-code")\nraise ValueError(f"said-by-the-error {model.key} in {Path.home()}")\n'
SECRETS = (
    "constant-of-the-source", "printed-by-the-code", "beside-the-finding", "of-the-environment", "annabelle",
    "said-by-the-error", "text-in-the-data", "7.3890561", "61.803398",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in somebody's home, with a secret in each corner."""
    home = tmp_path / "annabelle"
    folder = home / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "annabelle")
    monkeypatch.setenv("HUB_TOKEN", "of-the-environment")
    values = [((7 * i) % 23) / 2.3 for i in range(1024)]
    values[17] = 7.3890561
    (folder / "data.json").write_text(json.dumps({"note": "text-in-the-data", "weight": 61.803398, "values": values}))
    return folder


def _run(*arguments: str) -> None:
    done = CliRunner().invoke(app, ["run", *arguments, "--no-report"])
    assert done.exit_code in (1, 2), done.output


def _read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}


def test_a_bundle_has_all_that_helps_and_no_secret(project: Path) -> None:
    (project / "model.py").write_text(MODEL)
    _run("model.py", "--select", "loss-at-init,input-preview,forward-pass", "--json", "r.json", "--bundle", "b.zip")
    files = _read(project / "b.zip")
    assert {
        "README.txt",
        "environment.txt",
        "report.html",
        "reproduce.py",
        "result.json",
        "source/model.py.txt",
    } <= files.keys()
    assert any(name.startswith("figures/loss-at-init") for name in files)
    for name, text in files.items():
        assert [secret for secret in SECRETS if secret in text] == [], name
    assert all(name in files["README.txt"] for name in ("result.json", "reproduce.py", "source/"))
    assert "seed: 0" in files["environment.txt"]
    assert "self.head = nn.Linear(4, 2)" in files["source/model.py.txt"]
    assert "FILE = 'model.py'" in files["reproduce.py"]
    result = json.loads(files["result.json"])
    assert result["targets"][0]["findings"] == ["loss-at-init"]
    assert not [e for c in result["targets"][0]["checks"] for e in c["exhibits"] if e["kind"] == "samples"]
    # The saved result makes the same bundle, without torch, and again to the byte.
    once, twice = (_from_saved(project, name) for name in ("one.zip", "two.zip"))
    assert once == twice
    again = _read(project / "one.zip")
    assert again.keys() == files.keys()
    # Drawings depend on the fonts that matplotlib has found for this home.
    assert [name for name in files if again[name] != files[name] and not name.startswith(("figures/", "report."))] == []


def _from_saved(project: Path, name: str) -> bytes:
    code = (
        f"import sys; sys.argv = ['nncheck', 'report', 'r.json', '-o', 'r.html', '--bundle', {name!r}]\n"
        "from nncheck.cli import main\ncode = main()\nassert 'torch' not in sys.modules\nraise SystemExit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return (project / name).read_bytes()


def test_a_file_that_fails_says_so_without_its_words(project: Path) -> None:
    (project / "model.py").write_text(BROKEN)
    _run("model.py", "--bundle", "b.zip")
    files = _read(project / "b.zip")
    assert "reproduce.py" not in files
    for name, text in files.items():
        assert [secret for secret in SECRETS if secret in text] == [], name
    assert "ValueError (its message is left out)" in json.loads(files["result.json"])["targets"][0]["problem"]
    _run("model.py", "--bundle", "asked.zip", "--bundle-data")
    asked = json.loads(_read(project / "asked.zip")["result.json"])["targets"][0]["problem"]
    assert "said-by-the-error $HUB_TOKEN in ~" in asked
    assert "printed-by-the-code" in asked


def test_a_bundle_is_written_whole_or_not_at_all(project: Path) -> None:
    (project / "model.py").write_text(BROKEN)
    (project / "b.zip").mkdir()
    done = CliRunner().invoke(app, ["run", "model.py", "--no-report", "--bundle", "b.zip"])
    assert done.exit_code == 2
    assert "b.zip cannot be written" in done.output
    assert not list(project.glob(".b.zip*"))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("in /home/anna/x.py and /Users/anna/y", "in ~/x.py and ~/y"),
        ("train.py -- --hub-token abc123 --lr 3", 'train.py -- --hub-token "***" --lr 3'),
        ("ARGUMENTS = ['--password', 'abc123']", "ARGUMENTS = ['--password', '\"***\"']"),
        ('login(api_key="abc", size=3)', 'login(api_key="***", size=3)'),
        ("postgres://anna:abc123@host/db", "postgres://anna:***@host/db"),
        ("AWS_SECRET=abc123 nncheck run", 'AWS_SECRET="***" nncheck run'),
        ("12 tokens of 30: token 3 is cut; a key of 4", "12 tokens of 30: token 3 is cut; a key of 4"),
        ("targets are tokens 1 position(s) on", "targets are tokens 1 position(s) on"),
        ("on build-7, by annabelle", "on ***, by ***"),
        ("the square root", "the square root"),
    ],
)
def test_what_is_taken_out_of_a_text(text: str, clean: str) -> None:
    assert scrubber([], ["annabelle", "build-7", "root"])(text) == clean


def test_a_zip_has_no_dates_and_is_in_order(project: Path) -> None:
    (project / "model.py").write_text(BROKEN)
    _run("model.py", "--bundle", "b.zip")
    with zipfile.ZipFile(io.BytesIO((project / "b.zip").read_bytes())) as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(1980, 1, 1)}
