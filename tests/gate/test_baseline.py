"""The baseline: what is known does not fail, what is new or worse does, what is gone is named; and the file is for reviews."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.errors import UsageError
from nncheck.gate.baseline import Known, baseline_text, held_against, read_baseline, updated
from nncheck.gate.last import last_failed, last_failed_text, remembered
from nncheck.registry import order_findings
from nncheck.report.github import annotation_lines
from nncheck.report.json import from_json, to_json
from nncheck.report.junit import to_junit
from nncheck.report.terminal import plain_findings
from nncheck.verdict import (
    CheckResult,
    Place,
    Report,
    Stage,
    Status,
    TargetResult,
    Verdict,
    failed,
    passed,
    skipped,
    warned,
)
from tests.report import golden
from tests.report.marked import marked

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def _result(id: str, verdict: Verdict, **standing: str) -> CheckResult:
    return CheckResult(id=id, stage=Stage.INIT, verdict=verdict, seconds=0.1, doc=golden.doc(id), **standing)


def _target(*results: CheckResult, name: str = "net.py") -> TargetResult:
    whole = golden.unusable()
    found = order_findings({result.id: result for result in results})
    return dataclasses.replace(whole, target=name, file=name, checks=results, findings=found, problem=None)


def _report(*targets: TargetResult) -> Report:
    return golden.report(*targets)


def _dead(*layers: str, line: int = 1, figure: str = "half of them", verdict=failed) -> CheckResult:
    places = tuple(Place(name=layer, file="net.py", line=line, source="nn.ReLU()") for layer in layers)
    return _result("dead-relu", verdict(f"{figure} are dead", expected="none", places=places))


def _kept(report: Report) -> tuple[Known, ...]:
    return updated(report, (), root=Path())


def test_what_is_known_does_not_fail_and_what_is_new_does() -> None:
    before = _report(_target(_dead("layer1", "layer3")))
    known = _kept(before)
    assert before.exit_code == 1
    same = held_against(
        _report(_target(_dead("layer1", "layer3", line=77, figure="three quarters"))), known, file="b.json"
    )
    assert (same.exit_code, same.outcome, same.verdict) == (0, "passed", "fail")
    assert same.targets[0].check("dead-relu").known
    fewer = held_against(_report(_target(_dead("layer3"))), known, file="b.json")
    assert (fewer.exit_code, fewer.baseline.resolved) == (0, ("net.py: dead-relu | layer1",))
    none = held_against(_report(_target(_result("dead-relu", passed("0 dead")))), known, file="b.json")
    assert none.baseline.resolved == ("net.py: dead-relu | layer1, layer3",)
    more = held_against(_report(_target(_dead("layer1", "layer3", "layer9"))), known, file="b.json")
    assert (more.exit_code, more.targets[0].check("dead-relu").known) == (1, False)
    other = held_against(_report(_target(_dead("layer1", "layer3"), name="other.py")), known, file="b.json")
    assert other.exit_code == 1


def test_a_warning_that_became_a_failure_is_new() -> None:
    known = _kept(_report(_target(_dead("layer1", verdict=warned))))
    assert held_against(_report(_target(_dead("layer1"))), known, file="b").exit_code == 1
    known = _kept(_report(_target(_dead("layer1"))))
    milder = dataclasses.replace(_report(_target(_dead("layer1", verdict=warned))), fail_on="warn")
    assert held_against(milder, known, file="b").exit_code == 0


def test_only_what_could_be_told_is_resolved() -> None:
    known = _kept(_report(_target(_dead("layer1"))))
    for verdict, resolved in ((passed("0 dead"), 1), (skipped("no ReLU"), 0)):
        report = held_against(_report(_target(_result("dead-relu", verdict))), known, file="b")
        assert len(report.baseline.resolved) == resolved
    assert held_against(_report(_target()), known, file="b").baseline.resolved == ()
    assert held_against(_report(golden.unusable()), known, file="b").exit_code == 2


def test_what_was_not_asked_stays_and_what_is_gone_goes(tmp_path: Path) -> None:
    for name in ("net.py", "other.py"):
        (tmp_path / name).write_text("")
    both = _report(
        _target(_dead("layer1"), _result("shuffle", warned("sorted", expected="mixed"))),
        _target(_dead("a"), name="other.py"),
    )
    entries = updated(both, (), root=tmp_path)
    assert [(entry.target, entry.at, entry.status) for entry in entries] == [
        ("net.py", "dead-relu | layer1", Status.FAIL),
        ("net.py", "shuffle", Status.WARN),
        ("other.py", "dead-relu | a", Status.FAIL),
    ]  # fmt: skip
    later = _report(_target(_result("dead-relu", passed("0 dead"))))
    assert [entry.at for entry in updated(later, entries, root=tmp_path)] == ["shuffle", "dead-relu | a"]
    (tmp_path / "other.py").unlink()
    assert [entry.at for entry in updated(later, entries, root=tmp_path)] == ["shuffle"]


def test_an_accepted_finding_is_not_in_it() -> None:
    accepted = dataclasses.replace(_dead("layer1"), accepted="on purpose")
    assert _kept(_report(_target(accepted))) == ()


def test_the_file_is_sorted_with_one_finding_a_line_and_reads_back(tmp_path: Path) -> None:
    entries = _kept(_report(_target(_dead("b", "a"), _result("shuffle", warned("sorted", expected="")))))
    text = baseline_text(entries)
    lines = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith("  {")]
    assert [line["at"] for line in lines] == ["dead-relu | a", "dead-relu | b", "shuffle"]
    path = tmp_path / "b.json"
    path.write_text(text)
    assert read_baseline(path) == entries
    path.write_text(baseline_text(()))
    assert read_baseline(path) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no baseline"),
        ("{", "not JSON"),
        ("[]", "no baseline"),
        ('{"schema_version": 9, "findings": []}', "schema_version 9"),
        ('{"schema_version": 1, "findings": [{"target": "a", "check": "b", "at": "c"}]}', "no 'status'"),
        ('{"schema_version": 1, "findings": [{"target": "a", "check": "b", "at": "c", "status": "pass"}]}', "'pass'"),
    ],
)
def test_a_file_that_is_no_baseline_is_told(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_baseline(path)


def test_every_output_counts_new_known_and_resolved() -> None:
    known = _kept(_report(_target(_dead("layer1"), _result("shuffle", warned("sorted", expected="")))))
    now = _report(
        _target(_dead("layer1"), _result("shuffle", passed("mixed")), _result("symmetry", failed("equal", expected="")))
    )
    report = held_against(now, known, file="b.json")
    counted = "1 new, 1 known, 1 resolved"
    assert counted in plain_findings(report)
    assert "fail[dead-relu] (known)" in plain_findings(report)
    assert counted in report.to_markdown()
    assert counted in report.to_html()
    assert counted in to_junit(report)
    assert [line.partition("title=")[2].partition("::")[0] for line in annotation_lines(report)] == ["nncheck symmetry"]
    data = report.to_dict()["baseline"]
    assert (data["new"], data["known"], data["resolved"]) == (1, 1, ["net.py: shuffle"])
    assert from_json(to_json(report)) == report


def test_what_failed_last_is_remembered_until_it_is_asked_again(tmp_path: Path) -> None:
    memory = remembered(_report(_target(_dead("a"), _result("shuffle", warned("sorted", expected="")))), {})
    assert memory == {"net.py": frozenset({"dead-relu", "shuffle"})}
    memory = remembered(_report(_target(_result("dead-relu", passed("none")))), memory)
    assert memory == {"net.py": frozenset({"shuffle"})}
    (tmp_path / "last-failed.json").write_text(last_failed_text(memory))
    assert last_failed(tmp_path) == memory
    assert remembered(_report(_target(_result("shuffle", passed("mixed")))), memory) == {}
    (tmp_path / "last-failed.json").write_text("[1")
    assert last_failed(tmp_path) == {}


def _call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments])
    return done.exit_code, done.output


def test_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    shutil.copy(EXAMPLES / "sick" / "head_too_large.py", tmp_path / "net.py")
    asked = ("run", "net.py", "--no-report", "--select", "loss-at-init,forward-pass")
    assert _call(*asked, "--update-baseline")[0] == 2
    code, said = _call(*asked, "--baseline", "b.json")
    assert (code, "write one with" in said) == (2, True)
    code, said = _call(*asked, "--baseline", "b.json", "--update-baseline")
    assert (code, "0 new, 1 known, 0 resolved" in said, "baseline: b.json" in said) == (0, True, True), said
    assert {entry.check for entry in read_baseline(Path("b.json"))} == {"loss-at-init"}
    assert (tmp_path / ".nncheck_cache" / ".gitignore").read_text() == "*\n"
    code, said = _call(*asked, "--baseline", "b.json", "--last-failed")
    assert (code, "0 new, 1 known, 0 resolved" in said) == (0, True), said
    assert "--last-failed: net.py: loss-at-init" in said
    assert "forward-pass" not in said.replace("nncheck explain", "")
    shutil.copy(EXAMPLES / "digits_mlp.py", tmp_path / "net.py")
    code, said = _call(*asked, "--baseline", "b.json")
    assert (code, "0 new, 0 known, 1 resolved" in said) == (0, True), said
    code, said = _call(*asked, "--last-failed")
    assert "nothing is remembered; everything is asked" in said


def test_a_known_finding_is_marked_in_the_page() -> None:
    known = _kept(_report(_target(_dead("layer1"))))
    page = held_against(
        _report(_target(_dead("layer1"), _result("symmetry", failed("equal", expected="")))), known, file="b"
    ).to_html()
    heads = re.findall(r"<h3>(.*?)<br>", page, re.DOTALL)
    assert [("known" in head, "dead-relu" in head) for head in heads if "failed" in head] in (
        [(True, True), (False, False)], [(False, False), (True, True)]
    )  # fmt: skip


def test_what_was_not_run_again_says_so_everywhere() -> None:
    said = "unchanged since 2026-11-20 08:30 UTC, not run again"
    assert said in marked().to_html()
    assert said in marked().to_markdown()
    assert "unchanged since 2026-11-20" in to_junit(marked())
