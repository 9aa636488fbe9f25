"""The composite action: its own scripts, run as GitHub's runner runs them, and no input that becomes code."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.gate.sample import ROOT, Repository, environment, make_repository

ACTION = ROOT / "action.yml"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that was run: what it said, and what it told later steps."""

    done: subprocess.CompletedProcess[str]
    outputs: dict[str, str]


def _action() -> dict:
    return yaml.safe_load(ACTION.read_text(encoding="utf-8"))


def _steps() -> dict[str, dict]:
    return {step["name"]: step for step in _action()["runs"]["steps"]}


def _given(text: str, inputs: dict[str, str]) -> str:
    """Its expressions with what they stand for: here they name inputs and nothing else."""
    return EXPRESSION.sub(lambda match: inputs[match[1].removeprefix("inputs.")], text)


def _run(repository: Repository, name: str, *, path: str = "", **given: str) -> Step:
    """The step's script as the runner runs it: bash stops at the first error, inputs come through the environment."""
    step = _steps()[name]
    assert step["shell"] == "bash"
    unset = {"python": sys.executable, "args": "--select double-softmax"}
    inputs = {key: entry.get("default") for key, entry in _action()["inputs"].items()} | unset
    inputs |= {key.replace("_", "-"): value for key, value in given.items()}
    outside = repository.folder.parent
    (script := outside / "script.sh").write_text(step["run"], encoding="utf-8")
    for file in ("output", "summary"):
        (outside / file).write_text("", encoding="utf-8")
    environ = environment()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=repository.folder / _given(step["working-directory"], inputs),
        env={
            **environ,
            **{key: _given(value, inputs) for key, value in step["env"].items()},
            "PATH": path or environ["PATH"],
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(outside / "output"),
            "GITHUB_STEP_SUMMARY": str(outside / "summary"),
            "GITHUB_ACTION_PATH": str(ACTION.parent),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    lines = (outside / "output").read_text(encoding="utf-8").splitlines()
    return Step(done=done, outputs=dict(line.split("=", 1) for line in lines))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_repository(tmp_path_factory.mktemp("action") / "research")


def test_the_file_is_what_github_takes() -> None:
    subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.github-actions", str(ACTION)], env=environment(), check=True
    )


def test_inputs_reach_scripts_through_the_environment_alone() -> None:
    text = ACTION.read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    assert used == set(_action()["inputs"])
    for step in _steps().values():
        assert "${{" not in step.get("run", "")
        if "run" in step:
            named = set(re.findall(r"\$\{?(INPUT_[A-Z_]+)", step["run"]))
            assert named == set(step["env"])
        else:
            assert step["if"].startswith("${{ always() && inputs.upload == 'true' && steps.run.outputs.")


def test_a_healthy_target_passes_and_tells_later_steps(repository: Repository) -> None:
    (repository.folder / "two words").mkdir()
    step = _run(
        repository, "Run nncheck", targets="models/dig*.py", report="two words/page.html", sarif="two words/found.sarif"
    )
    assert step.done.returncode == 0, step.done.stdout + step.done.stderr
    assert (step.outputs["verdict"], step.outputs["findings"]) == ("pass", "0")
    for output in ("report", "json", "sarif"):
        assert Path(step.outputs[output]).is_file()
        assert Path(step.outputs[output]).parent.name == "two words"
    for output in re.findall(r"steps\.run\.outputs\.([a-z]+)", ACTION.read_text(encoding="utf-8")):
        assert output in step.outputs
    assert (repository.folder.parent / "summary").read_text(encoding="utf-8").startswith("## nncheck: No problem found")


def test_a_sick_target_fails_the_step_and_its_files_are_there_to_be_uploaded(repository: Repository) -> None:
    repository.plant()
    step = _run(
        repository, "Run nncheck", targets="digits.py", working_directory="models", sarif="found.sarif", fail_on="warn"
    )
    assert step.done.returncode == 1, step.done.stdout + step.done.stderr
    assert (step.outputs["verdict"], step.outputs["findings"]) == ("fail", "1")
    assert step.outputs["report"] == str((repository.folder / "models" / "nncheck-report.html").resolve())
    assert "\n::error file=models/digits.py,line=41," in step.done.stdout


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A Python without nncheck that writes down what it is asked."""
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\nprintf "%s|" "$@" >> "{tmp_path}/asked"\necho >> "{tmp_path}/asked"\n[ "$4" != --version ]\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        ("a.py; touch pwned", ["a.py;", "touch", "pwned"]),
        ("a.py && touch pwned", ["a.py", "&&", "touch", "pwned"]),
        ("a.py\ntouch pwned", ["a.py", "touch", "pwned"]),
        ("$(touch pwned)", ["$(touch", "pwned)"]),
        ("`touch pwned`", ["`touch", "pwned`"]),
        ('"$(touch pwned)" > pwned', ["$(touch pwned)", ">", "pwned"]),
        ("$IFS;touch${IFS}pwned <(touch pwned)", ["$IFS;touch${IFS}pwned", "<(touch", "pwned)"]),
        ("{a,b}.py ~ 'models/a b.py' -n %s", ["{a,b}.py", "~", "models/a b.py", "-n", "%s"]),
        ('a.py "; touch pwned', None),
    ],
)
def test_what_looks_like_code_is_text(
    hostile: str, words: list[str] | None, recorded: Path, repository: Repository
) -> None:
    always = ["-P", "-m", "nncheck", "run", "--report", "r.html", "--json", "r.json"]
    for name in ("targets", "args", "baseline", "fail-on", "sarif"):
        split = name in ("targets", "args")
        given = {"args": "", name: hostile, "report": "r.html", "python": str(recorded)}
        step = _run(repository, "Run nncheck", **given)
        asked = recorded.parent / "asked"
        if split and words is None:
            assert step.done.returncode == 2, step.done.stderr
            assert not asked.exists()
            continue
        assert step.done.returncode == 0, step.done.stderr
        expected = always + (words or [] if split else [f"--{name}", hostile])
        assert asked.read_text(encoding="utf-8") == "".join(f"{word}|" for word in expected) + "\n"
        asked.unlink()
    assert not list(repository.folder.rglob("*pwned*"))


def test_globs_mean_files_among_targets_only(recorded: Path, repository: Repository) -> None:
    step = _run(repository, "Run nncheck", targets="models/d*.py", args="--ignore *", python=str(recorded))
    assert step.done.returncode == 0, step.done.stderr
    asked = (recorded.parent / "asked").read_text(encoding="utf-8").split("|")
    assert asked[8:] == ["models/diabetes.py", "models/digits.py", "--ignore", "*", "\n"]


@pytest.mark.parametrize(
    ("install", "expected"),
    [
        ("", ["-P|-m|nncheck|--version|", f"-m|pip|install|--|{ACTION.parent}|"]),
        ("nncheck==0.1.0", ["-m|pip|install|--|nncheck==0.1.0|"]),
        ("x; touch pwned", ["-m|pip|install|--|x; touch pwned|"]),
    ],
)
def test_nncheck_is_installed_where_it_is_missing(
    install: str, expected: list[str], recorded: Path, repository: Repository
) -> None:
    step = _run(repository, "Install nncheck", python=str(recorded), install=install)
    assert step.done.returncode == 0, step.done.stderr
    assert (recorded.parent / "asked").read_text(encoding="utf-8").splitlines() == expected
    assert not list(repository.folder.rglob("pwned"))


def test_nncheck_that_is_there_is_taken(repository: Repository) -> None:
    step = _run(repository, "Install nncheck")
    assert step.done.returncode == 0, step.done.stderr
    assert re.fullmatch(r"nncheck \S+\n", step.done.stdout), step.done.stdout
