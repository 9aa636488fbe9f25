"""The built wheel in an environment of its own: nothing of the checkout may be needed."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)], cwd=folder)
    (built,) = folder.glob("nncheck-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, and the dependencies of the one that runs the tests, but not its nncheck."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else sysconfig.get_default_scheme()
    places = {
        name: sysconfig.get_path(name, scheme, {"base": str(folder), "platbase": str(folder)})
        for name in ("purelib", "scripts")
    }
    python = Path(places["scripts"]) / Path(sys.executable).name
    if not python.exists():
        python = Path(places["scripts"]) / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    _run([*pip, str(wheel)], cwd=folder)
    # A path file's folder is searched after the environment's own, and its path files (an editable nncheck) are not read.
    outside = sysconfig.get_path("purelib")
    (Path(places["purelib"]) / "dependencies.pth").write_text(outside + "\n", encoding="utf-8")
    return python


def _run(command: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def test_templates_and_type_marker_are_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for path in (ROOT / "templates").iterdir():
        assert f"nncheck/templates/{path.name}" in names
    assert "nncheck/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if not name.startswith(("nncheck/", "nncheck-"))]


def test_it_is_the_wheel_that_runs(python: Path, tmp_path: Path) -> None:
    where = _run([str(python), "-c", "import nncheck; print(nncheck.__file__)"], cwd=tmp_path).stdout
    assert str(ROOT) not in where
    assert "nncheck" in _run([str(python), "-m", "nncheck", "--version"], cwd=tmp_path).stdout


def test_run_and_report_from_another_folder(python: Path, tmp_path: Path) -> None:
    example = ROOT / "examples" / "imbalanced_binary.py"
    command = str(python.parent / "nncheck")
    run = _run([command, "run", str(example), "--select", "setup", "--json", "result.json"], cwd=tmp_path)
    assert "forward-pass" in run.stdout
    assert "<!doctype html>" in (tmp_path / "nncheck-report.html").read_text(encoding="utf-8").lower()
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["schema_version"] == 1
    _run([command, "report", "result.json", "-o", "again.html"], cwd=tmp_path)
    assert "<!doctype html>" in (tmp_path / "again.html").read_text(encoding="utf-8").lower()
