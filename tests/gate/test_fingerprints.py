"""A finding of a real run keeps its fingerprint with other seeds and with lines put above it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.report.identity import fingerprint, identities
from nncheck.report.json import from_json

SICK = Path(__file__).parents[2] / "examples" / "sick"


def _found(check: str, *options: str) -> tuple[str, tuple[str, ...], int]:
    """Fingerprint, keys and line of the finding, as the saved result and the SARIF file have them."""
    CliRunner().invoke(
        app, ["run", "net.py", "--select", check, "--no-report", "--json", "r.json", "--sarif", "r.sarif", *options]
    )
    report = from_json(Path("r.json").read_text(encoding="utf-8"))
    (target,) = report.targets
    assert (target.file, report.folder) == ("work/net.py", "work")
    result = target.check(check)
    (entry,) = json.loads(Path("r.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert entry["partialFingerprints"]["nncheck/v1"] == fingerprint(target, result)
    place = entry["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "work/net.py"
    return fingerprint(target, result), identities(target, result), place["region"]["startLine"]


@pytest.mark.parametrize(
    ("name", "check", "key"),
    [("negative_bias", "dead-relu", "dead-relu | body.3"), ("classes_in_order", "shuffle", "shuffle | train_loader")],
)
def test_it_survives_seeds_and_moved_lines(
    name: str, check: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    source = (SICK / f"{name}.py").read_text(encoding="utf-8")
    Path("net.py").write_text(source, encoding="utf-8")
    first, keys, line = _found(check)
    assert keys == (key,)
    assert _found(check, "--seed", "5") == (first, keys, line)
    Path("net.py").write_text("# moved\n" * 7 + source, encoding="utf-8")
    assert _found(check) == (first, keys, line + 7)
