"""The targets that a configuration lists: paths, globs, what is left out and what is not there."""

import os
from pathlib import Path

import pytest

from nncheck.config import config_for
from nncheck.config.targets import is_gone, listed, matches
from nncheck.errors import UsageError

FILES = (
    "train.py", "models/b.py", "models/a.py", "models/old_a.py", "models/__init__.py", "models/deep/c.py", "models/notes.md",
    "notes/x.md", ".hidden/x.py", "odd[1].py", "nb.ipynb",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def targets(project: Path, text: str) -> list[str]:
    (project / "nncheck.toml").write_text(text)
    return list(listed(config_for(str(project / "train.py"))))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('targets = ["models/*.py"]', ["models/a.py", "models/b.py", "models/old_a.py"]),
        ('targets = ["models/**/*.py"]', ["models/a.py", "models/b.py", "models/deep/c.py", "models/old_a.py"]),
        ('targets = ["./train.py", "models/[ab].py", "train.py"]', ["train.py", "models/a.py", "models/b.py"]),
        ('targets = ["train.py:build", "models/[ab].py:make"]', ["train.py:build", "models/a.py:make", "models/b.py:make"]),
        ('targets = ["package.module:build", "train.py"]', ["package.module:build", "train.py"]),
        ('targets = ["odd[1].py"]', ["odd[1].py"]),
        ('targets = ["*.ipynb"]', ["nb.ipynb"]),
        ('targets = ["models/*"]\nexclude = ["models/old_*.py"]', ["models/a.py", "models/b.py"]),
        ('targets = ["**/*.py"]\nexclude = ["models", "odd*"]', ["train.py"]),
        ('targets = ["**/*.py"]\nexclude = ["*/*.py", "**/odd*"]', ["models/deep/c.py", "train.py"]),
        ('targets = ["train.py"]\nexclude = ["nothing/**"]', ["train.py"]),
        ('targets = ["train.py -- --name \'a b\'"]', ["train.py -- --name 'a b'"]),
        ("seed = 1", []),
    ],
)  # fmt: skip
def test_paths_and_globs(project: Path, text: str, found: list[str]) -> None:
    assert targets(project, text) == found


def test_they_are_relative_to_the_file_and_shown_from_the_working_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "models")
    assert targets(project, 'targets = ["models/a.py", "train.py:build"]') == ["a.py", f"..{os.sep}train.py:build"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('seed = 1\ntargets = [\n"train.py",\n"modles/*.py"]', r"toml:4: no Python file matches 'modles/\*\.py'"),
        ('targets = ["models/*.md"]', r"toml:1: no Python file matches"),
        ('targets = ["trian.py"]', r"toml:1: there is no file trian\.py; did you mean 'train\.py'\?"),
        ('targets = ["trian.py -- --epochs 3"]', r"toml:1: there is no file trian\.py"),
        ('targets = ["train.py -- \\"3"]', r"No closing quotation"),
        ('targets = ["notes"]', r"toml:1: notes is a folder"),
        ('targets = ["models/"]', r'toml:1: models/ is a folder; its files are "models/\*\.py"'),
        ('targets = ["train.py"]\nexclude = ["*.py"]', r"toml:2: exclude leaves none of the targets"),
    ],
)
def test_what_is_not_there_is_told_with_its_line(project: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        targets(project, text)


@pytest.mark.parametrize(
    ("file", "pattern", "fits"),
    [
        ("models/a.py", "models/a.py", True),
        ("models/a.py", "./models/a.py", True),
        ("models/a.py", "models/*.py", True),
        ("models/deep/c.py", "models/*.py", False),
        ("models/deep/c.py", "models/**/*.py", True),
        ("models/a.py", "models/**/*.py", True),
        ("models/a.py", "**/a.py", True),
        ("a.py", "**/a.py", True),
        ("models/a.py", "models", True),
        ("models/a.py", "mod*", True),
        ("models/a.py", "a.py", False),
        ("../other/a.py", "../other/*", True),
        ("models/A.py", "models/a.py", False),
    ],
)
def test_a_glob_keeps_to_folders(file: str, pattern: str, fits: bool) -> None:
    assert matches(file, pattern) is fits


def test_gone_is_what_no_file_answers_to(project: Path) -> None:
    assert is_gone("models/z.py", project)
    assert is_gone("models/z*.py:build", project)
    assert not is_gone("models/*.py", project)
    assert not is_gone("package.module", project)
    assert not is_gone("odd[1].py", project)
