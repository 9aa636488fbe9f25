"""The examples, through the command line: healthy ones are quiet, each sick twin names its planted fault first."""

import difflib
import json
import re
from pathlib import Path
from unittest.mock import ANY

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.registry import catalogue
from nncheck.verdict import Stage
from tests.gate.reproducing import run_script, script_for

EXAMPLES = Path(__file__).parent.parent / "examples"
HEALTHY = sorted(path.name for path in EXAMPLES.glob("*.py"))
SICK = sorted(path.name for path in (EXAMPLES / "sick").glob("*.py"))
HEADER = re.compile(r"# twin: (?P<twin>\S+)\n# fault: (?P<fault>.+)\n# expect: (?P<expect>\S+)\n")


def _run(path: Path, result: Path) -> tuple[int, list[str], dict[str, tuple[str, str]]]:
    """Exit code, findings, and what the checks said that is not a pass."""
    done = CliRunner().invoke(app, ["run", str(path), "--fail-on", "warn", "--no-report", "--json", str(result)])
    (target,) = json.loads(result.read_text(encoding="utf-8"))["targets"]
    said = {c["id"]: (c["status"], c["summary"]) for c in target["checks"] if c["status"] in ("warn", "fail", "error")}
    return done.exit_code, target["findings"], said


def _header(name: str) -> re.Match[str]:
    found = HEADER.match((EXAMPLES / "sick" / name).read_text(encoding="utf-8"))
    assert found, f"{name} does not begin with twin, fault and expect"
    return found


@pytest.mark.parametrize("name", SICK)
def test_a_sick_twin_differs_by_one_change(name: str) -> None:
    """One run of lines is changed, added or removed, or one line has moved."""
    header = _header(name)
    healthy = (EXAMPLES / header["twin"]).read_text(encoding="utf-8").splitlines()
    sick = (EXAMPLES / "sick" / name).read_text(encoding="utf-8").splitlines()[3:]
    changes = [c for c in difflib.SequenceMatcher(None, healthy, sick, autojunk=False).get_opcodes() if c[0] != "equal"]
    if len(changes) == 2:
        removed, added = (
            [line for _, a, b, c, d in changes for line in (healthy[a:b], sick[c:d])[side]] for side in (0, 1)
        )
        assert removed == added, changes
        changes = changes[:1]
    assert len(changes) == 1
    _, a, b, c, d = changes[0]
    assert max(b - a, d - c) <= 1


def test_every_check_has_a_sick_example() -> None:
    """Those of the loop have the scripts of tests/capture: a set-up has no loop of its own."""
    assert {_header(name)["expect"] for name in SICK} == {e.id for e in catalogue() if e.stage is not Stage.LOOP}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_examples_are_quiet(name: str, tmp_path: Path) -> None:
    assert _run(EXAMPLES / name, tmp_path / "result.json") == (0, [], {})


@pytest.mark.parametrize("name", SICK)
def test_sick_examples_name_their_fault_first(name: str, tmp_path: Path) -> None:
    code, findings, said = _run(EXAMPLES / "sick" / name, tmp_path / "result.json")
    assert findings[:1] == [_header(name)["expect"]], said
    assert code == 1
    (target,) = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["targets"]
    places = next(check["places"] for check in target["checks"] if check["id"] == findings[0])
    place = next((place for place in places if "line" in place), None)
    assert place is not None, "the first finding has a line of the user's"
    assert place["file"].endswith(f"examples/sick/{name}")
    assert {"column", "end_line", "end_column", "source"} <= set(place)
    script = script_for(tmp_path / "result.json")
    assert run_script(script, EXAMPLES / "sick" / name) == (1, ANY)
    assert run_script(script, EXAMPLES / _header(name)["twin"]) == (0, ANY)
