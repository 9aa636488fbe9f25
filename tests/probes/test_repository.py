"""Files as they are named: from the working directory within the repository, absolute outside of it."""

import os
from pathlib import Path

import pytest

from nncheck.observe.repository import file_of_target, folder_in_repository, root_of, seen_from
from nncheck.observe.source import place_at


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`repo/{.git,experiments/a.py,lib/net.py}` beside `elsewhere/c.py`; the working directory is `experiments`."""
    for name in ("repo/experiments/a.py", "repo/lib/net.py", "repo/pkg/__init__.py", "elsewhere/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "repo" / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "repo" / "experiments")
    return tmp_path / "repo"


def test_the_root_is_the_nearest_parent_with_git(repository: Path, tmp_path: Path) -> None:
    assert root_of(os.getcwd()) == str(repository)
    assert folder_in_repository() == "experiments"
    assert folder_in_repository(str(repository)) == ""


def test_the_git_of_a_worktree_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "tree" / "src").mkdir(parents=True)
    (tmp_path / "tree" / ".git").write_text("gitdir: elsewhere\n")
    assert folder_in_repository(str(tmp_path / "tree" / "src")) == "src"


def test_without_a_repository_the_working_directory_is_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert root_of(str(tmp_path)) == str(tmp_path)
    assert folder_in_repository() == ""
    (tmp_path / "a.py").write_text("x = 1\n")
    assert seen_from("a.py", str(tmp_path)) == "a.py"


def test_places_are_seen_from_the_working_directory(repository: Path, tmp_path: Path) -> None:
    assert place_at("x", str(repository / "experiments" / "a.py"), 1).file == "a.py"
    assert place_at("x", str(repository / "lib" / "net.py"), 1).file == "../lib/net.py"
    assert place_at("x", str(tmp_path / "elsewhere" / "c.py"), 1).file == str(tmp_path / "elsewhere" / "c.py")


def test_symbolic_links_are_followed(repository: Path, tmp_path: Path) -> None:
    (repository / "experiments" / "link.py").symlink_to(repository / "lib" / "net.py")
    (repository / "experiments" / "out.py").symlink_to(tmp_path / "elsewhere" / "c.py")
    assert place_at("x", "link.py", 1).file == "../lib/net.py"
    assert place_at("x", "out.py", 1).file == str(tmp_path / "elsewhere" / "c.py")
    (tmp_path / "way").symlink_to(repository)
    assert seen_from(str(tmp_path / "way" / "lib" / "net.py"), str(tmp_path / "way" / "experiments")) == "../lib/net.py"


@pytest.mark.parametrize(
    ("typed", "file"),
    [
        ("a.py", "experiments/a.py"),
        ("./a.py:build", "experiments/a.py"),
        ("../lib/net.py", "lib/net.py"),
        ("a", "experiments/a.py"),
        ("a:build", "experiments/a.py"),
        ("../../elsewhere/c.py", ""),
        ("torch.nn", ""),
        ("", ""),
    ],
)
def test_the_file_that_a_target_names(typed: str, file: str, repository: Path) -> None:
    assert file_of_target(typed) == file
    assert file_of_target(str(repository / "lib" / "net.py")) == "lib/net.py"
