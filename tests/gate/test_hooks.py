"""The hook for pre-commit: run by pre-commit itself, from a repository that offers it as this one does."""

import shlex
import shutil
import subprocess

import pytest
import yaml

from tests.gate.sample import ROOT, Repository, blocks_below, environment, make_repository

HOOKS = ROOT / ".pre-commit-hooks.yaml"

USING = """\
repos:
  - repo: {repo}
    rev: {rev}
    hooks:
      - id: nncheck
        args: [models/digits.py, --select, double-softmax, --no-report]
"""


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that offers the hook."""
    repository = Repository(folder=tmp_path_factory.mktemp("offered"))
    shutil.copy(HOOKS, repository.folder)
    repository.git("init", "--quiet")
    repository.commit("A hook")
    return repository


@pytest.fixture(scope="module")
def research(offered: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One that uses it, with a remote to push to."""
    repository = make_repository(tmp_path_factory.mktemp("hooks") / "research")
    rev = offered.git("rev-parse", "HEAD").strip()
    (repository.folder / ".pre-commit-config.yaml").write_text(
        USING.format(repo=offered.folder.as_posix(), rev=rev), encoding="utf-8"
    )
    repository.commit("pre-commit")
    repository.git("init", "--quiet", "--bare", "../remote.git")
    repository.git("remote", "add", "origin", "../remote.git")
    return repository


def _run(repository: Repository, *command: str) -> subprocess.CompletedProcess[str]:
    return repository.run(*command, PRE_COMMIT_HOME=str(repository.folder.parent / "pre-commit"))


def test_the_manifest_is_what_pre_commit_takes() -> None:
    subprocess.run(["pre-commit", "validate-manifest", str(HOOKS)], env=environment(), check=True)
    [hook] = yaml.safe_load(HOOKS.read_text(encoding="utf-8"))
    assert (hook["id"], hook["entry"], hook["language"]) == ("nncheck", "nncheck run", "system")


def test_a_fault_is_not_pushed_and_its_mending_passes(research: Repository) -> None:
    install, by_hand = (shlex.split(line) for line in blocks_below("pre-commit")[1].splitlines())
    installed = _run(research, *install)
    assert installed.returncode == 0, installed.stderr
    research.plant()
    research.commit("Probabilities are nicer to look at")
    pushed = _run(research, "git", "push", "--quiet", "origin", "main")
    said = pushed.stdout + pushed.stderr
    assert pushed.returncode == 1, said
    assert "fail[double-softmax]" in said
    assert "models/digits.py:41" in said
    assert _run(research, "git", "ls-remote", "origin").stdout == ""

    research.mend()
    research.commit("The loss is given the raw outputs")
    done = _run(research, *by_hand)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed" in done.stdout


def test_a_change_of_text_alone_costs_nothing(research: Repository) -> None:
    (research.folder / "notes.md").write_text("To do: nothing.\n", encoding="utf-8")
    research.git("add", "notes.md")
    done = _run(research, "pre-commit", "run", "nncheck", "--hook-stage", "manual")
    assert done.returncode == 0, done.stdout
    assert "(no files to check)Skipped" in done.stdout
