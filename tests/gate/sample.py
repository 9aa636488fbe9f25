"""A research repository made of the examples: a configuration, an accepted finding, a baseline, and a fault that is planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"

BASELINE = "nncheck-baseline.json"

CONFIGURATION = """\
targets = ["models/*.py"]
fail-on = "warn"
select = ["forward-pass", "shuffle", "loss-broadcast", "double-softmax"]

[[accept]]
check = "shuffle"
target = "models/views.py"
reason = "a curriculum: the easy digits first"
"""

# What surrounds a test run must not reach the runs that it starts.
_NOT_PASSED_ON = ("GITHUB_", "GIT_", "INPUT_", "PYTEST_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A folder under git, and commands as a person or a CI job runs them in it."""

    folder: Path

    def run(self, *command: str, check: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command with the tests' own nncheck, git and pre-commit first on the path. Four minutes at most."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**environment(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=check,
        )

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments, check=True).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def put(self, name: str, example: str) -> None:
        """An example as a file of the repository, without the lines that tell the tests what it is."""
        lines = (EXAMPLES / example).read_text(encoding="utf-8").splitlines(keepends=True)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line for line in lines if not line.startswith("# ")), encoding="utf-8")

    def plant(self) -> None:
        """A softmax before cross-entropy, which has its own."""
        self.put("models/digits.py", "sick/softmax_twice.py")

    def mend(self) -> None:
        self.put("models/digits.py", "digits_cnn.py")


def environment() -> dict[str, str]:
    """The tests' environment with their own programs first on the path, and nothing of git's or a CI system's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    who = {f"GIT_{role}_{what}": "sample" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    programs = str(Path(sys.executable).parent)
    return {**environ, **who, **nothing, "PATH": os.pathsep.join([programs, environ.get("PATH", "")])}


def blocks_below(heading: str) -> list[str]:
    """The fenced blocks below a heading of docs/ci.md."""
    sections = re.split(r"^## ", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    [text] = [section for section in sections if section.startswith(heading + "\n")]
    return re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def make_repository(folder: Path) -> Repository:
    """One healthy model, one with a finding to be accepted, one with a finding from before nncheck; committed once."""
    folder.mkdir(parents=True)
    repository = Repository(folder=folder)
    repository.mend()
    repository.put("models/views.py", "sick/classes_in_order.py")
    repository.put("models/diabetes.py", "sick/regression_broadcast.py")
    (folder / "nncheck.toml").write_text(CONFIGURATION, encoding="utf-8")
    (folder / ".gitignore").write_text(
        "nncheck-report.*\nnncheck-*.xml\nnncheck-*.sarif\n__pycache__/\n", encoding="utf-8"
    )
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.commit("Three models")
    return repository
