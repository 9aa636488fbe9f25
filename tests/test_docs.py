"""Documentation that repeats the code is generated from it and up to date; what README shows is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nncheck.registry import catalogue
from nncheck.verdict import Stage

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_generated_files_are_up_to_date() -> None:
    done = _run("scripts/gen_docs.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_check_is_in_the_readme_and_has_a_page() -> None:
    for entry in catalogue():
        assert f"[{entry.id}](docs/checks/{entry.id}.md)" in README
        text = (ROOT / "docs" / "checks" / f"{entry.id}.md").read_text(encoding="utf-8")
        for heading in ("What it does", "Why it matters", "How to fix", "Example", "Known limits", "Source"):
            assert f"\n## {heading}\n" in text


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_links_inside_the_repository_lead_somewhere(path: str) -> None:
    page = ROOT / path
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http:", "https:")):
            assert (page.parent / link).exists(), f"{path} links to {link}"


def test_contributing_fits_one_screen() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 50


@pytest.mark.parametrize("stage", Stage)
def test_a_new_check_starts_from_files_that_work(stage: Stage, tmp_path: Path) -> None:
    """The skeletons are written, pass lint, and their own table test passes; the same name twice is refused."""
    for folder in ("nncheck", "scripts"):
        _copy(ROOT / folder, tmp_path / folder)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    done = _run("scripts/new_check.py", "purple-weights", str(stage), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _run("scripts/new_check.py", "purple-weights", str(stage), cwd=tmp_path).returncode == 1
    written = re.findall(r"^wrote (.+)$", done.stdout, re.MULTILINE)
    assert len(written) == 4
    lint = _run("-m", "ruff", "check", *written, cwd=tmp_path)
    assert lint.returncode == 0, lint.stdout
    tidy = _run("-m", "ruff", "format", "--check", *written, cwd=tmp_path)
    assert tidy.returncode == 0, tidy.stdout
    if stage is Stage.INIT:
        listed = _run("-m", "pytest", "-p", "no:cacheprovider", str(tmp_path / written[-1]), cwd=tmp_path)
        assert listed.returncode == 0, listed.stdout


def test_a_new_check_needs_a_good_name() -> None:
    for arguments in ([], ["Bad_Name", "init"], ["good-name", "nowhere"]):
        assert _run("scripts/new_check.py", *arguments).returncode == 2


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*.py"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
