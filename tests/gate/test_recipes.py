"""The recipes for CI systems: each is what its system takes, and each of its commands is run in the sample repository."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from nncheck.cli import app
from tests.gate.sample import BASELINE, ROOT, Repository, blocks_below, environment, make_repository
from tests.gate.test_action import ACTION


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe runs, and the files that it hands to its system."""

    commands: tuple[str, ...]
    files: tuple[str, ...]


def _gitlab() -> Recipe:
    [text] = blocks_below("GitLab CI")
    [job] = yaml.safe_load(text).values()
    artifacts = job["artifacts"]
    return Recipe(
        commands=(*job["before_script"], *job["script"]),
        files=(*artifacts["paths"], *artifacts["reports"].values(), *job["cache"]["paths"]),
    )


def _jenkins() -> Recipe:
    [text] = blocks_below("Jenkins")
    return Recipe(
        commands=tuple(re.findall(r"^ *sh '(.+)'$", text, re.MULTILINE)),
        files=(*re.findall(r"junit '(.+)'", text), *re.findall(r"artifacts: '(.+?)'", text)),
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """With an empty baseline, all but what is healthy or accepted left out, and the environment that the Jenkins job makes."""
    made = make_repository(tmp_path_factory.mktemp("recipes") / "research")
    made.git("rm", "--quiet", "models/diabetes.py")
    (made.folder / BASELINE).write_text('{"schema_version": 1, "findings": []}\n', encoding="utf-8")
    (made.folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    return made


def _follow(recipe: Recipe, repository: Repository) -> subprocess.CompletedProcess[str]:
    """Run its commands but for the installation, as its system does; the files it names must be there, and made anew."""
    for name in recipe.files:
        if not name.endswith("/"):
            (repository.folder / name).unlink(missing_ok=True)
    own = [command for command in recipe.commands if "pip install" not in command]
    assert len(own) == len(recipe.commands) - 1
    [done] = [repository.run("sh", "-e", "-c", command) for command in own]
    for name in recipe.files:
        assert (repository.folder / name).exists(), done.stdout + done.stderr
    return done


def _failures(junit: Path) -> int:
    return sum(int(suite.get("failures", 0)) for suite in ElementTree.parse(junit).getroot().iter("testsuite"))


def test_the_recipes_pass_on_what_is_healthy_and_fail_on_what_is_planted(repository: Repository) -> None:
    junit = repository.folder / "nncheck-junit.xml"
    for make, expected in ((_gitlab, 0), (_jenkins, 0), (_gitlab, 1), (_jenkins, 1)):
        if expected == 1:
            repository.plant()
        done = _follow(make(), repository)
        assert done.returncode == expected, done.stdout + done.stderr
        assert _failures(junit) == expected


def test_gitlab_takes_the_job(tmp_path: Path) -> None:
    [text] = blocks_below("GitLab CI")
    (path := tmp_path / ".gitlab-ci.yml").write_text(text, encoding="utf-8")
    subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", str(path)], env=environment(), check=True
    )


def test_github_takes_the_workflow_and_the_action_its_inputs(tmp_path: Path) -> None:
    workflow, kept = blocks_below("GitHub Actions")
    steps = yaml.safe_load(kept)
    with_cache = workflow.replace("      # These five:\n", kept)
    (path := tmp_path / "nncheck.yml").write_text(with_cache, encoding="utf-8")
    subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)], env=environment(), check=True
    )
    [job] = yaml.safe_load(with_cache)["jobs"].values()
    assert steps[0] in job["steps"]
    action = job["steps"][-1]
    assert action["uses"].startswith("OWNER/nncheck@")
    inputs = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["inputs"]
    assert set(action["with"]) <= set(inputs)
    assert len(workflow.partition("# These five:\n")[2].splitlines()) == 5
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in inputs)


def test_pre_commit_takes_the_configuration(tmp_path: Path) -> None:
    configuration, _commands = blocks_below("pre-commit")
    (path := tmp_path / ".pre-commit-config.yaml").write_text(configuration, encoding="utf-8")
    subprocess.run(["pre-commit", "validate-config", str(path)], env=environment(), check=True)
    [hook] = yaml.safe_load(configuration)["repos"][0]["hooks"]
    assert hook["id"] == "nncheck"
    assert CliRunner().invoke(app, ["run", *hook["args"], "--help"]).exit_code == 0
