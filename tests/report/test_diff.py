"""`nncheck diff`: new, gone, better, worse, and what only chance has moved."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from nncheck.cli import app
from nncheck.registry import order_findings
from nncheck.report.diff import compare, diff_json, diff_lines, diff_markdown
from nncheck.report.json import to_json
from nncheck.verdict import CheckResult, Report, Stage, TargetResult, Verdict, errored, failed, passed, skipped, warned
from tests.report import golden


def _result(id: str, verdict: Verdict, **standing: str) -> CheckResult:
    return CheckResult(id=id, stage=Stage.INIT, verdict=verdict, seconds=0.1, doc=golden.doc(id), **standing)


def _target(*results: CheckResult, name: str = "net.py") -> TargetResult:
    found = order_findings({result.id: result for result in results})
    empty = dataclasses.replace(golden.unusable(), target=name, problem=None)
    return dataclasses.replace(empty, checks=results, findings=found)


def _of(verdict: Verdict, **standing: str) -> Report:
    return golden.report(_target(_result("dead-relu", verdict, **standing)))


PASS, WARN, FAIL = passed("0 dead"), warned("1 dead", expected="0"), failed("2 dead", expected="0")
SKIP, ERROR = skipped("no ReLU"), errored("could not tell")


@pytest.mark.parametrize(
    ("before", "after", "word", "worse"),
    [
        (PASS, FAIL, "new", True), (PASS, WARN, "new", True), (WARN, FAIL, "worse", True), (FAIL, WARN, "better", False),
        (FAIL, PASS, "gone", False), (WARN, PASS, "gone", False), (PASS, ERROR, "worse", True), (PASS, SKIP, "not run", False),
        (SKIP, FAIL, "new", True), (SKIP, PASS, None, False), (PASS, PASS, None, False), (FAIL, FAIL, None, False),
        (ERROR, ERROR, None, False), (SKIP, SKIP, None, False), (ERROR, FAIL, "new", True),
    ],
)  # fmt: skip
def test_every_turn_has_its_word(before: Verdict, after: Verdict, word: str | None, worse: bool) -> None:
    change = compare(_of(before), _of(after))
    assert [difference.word for difference in change.differences] == ([word] if word else [])
    assert change.worse is worse


def test_accepted_findings_count_as_passed() -> None:
    accepted = _of(FAIL, accepted="on purpose")
    assert compare(_of(PASS), accepted).differences == ()
    [difference] = compare(_of(FAIL), accepted).differences
    assert (difference.word, difference.after) == ("gone", "accepted")


def _loss(said, loss: float, *, spread: float | None = 0.04, near: str = "") -> Report:
    spreads = {} if spread is None else {"loss": spread}
    return _of(
        said(f"loss {loss}", expected="2.303", numbers={"loss": loss, "classes": 10.0}, spread=spreads, near=near)
    )


def test_figures_within_the_measured_spread_are_no_change() -> None:
    # Two standard errors of a difference of two figures with 0.04 each: 0.113.
    assert compare(_loss(failed, 4.80), _loss(failed, 4.90)).differences == ()
    [moved] = compare(_loss(failed, 4.80), _loss(failed, 4.93)).differences
    assert moved.word == "moved"
    assert [(figure.name, figure.noise) for figure in moved.figures] == [("loss", False)]
    # Without a spread nothing in it is random: whatever differs has a reason.
    assert [
        d.word for d in compare(_loss(failed, 4.80, spread=None), _loss(failed, 4.81, spread=None)).differences
    ] == ["moved"]
    assert compare(_loss(failed, 4.8, spread=None), _loss(failed, 4.8 * (1 + 1e-9), spread=None)).differences == ()


def test_a_verdict_that_turned_by_chance_is_noise_only_near_its_threshold() -> None:
    near = "0.03 below the limit, with a standard error of 0.04"
    [turned] = compare(_loss(passed, 2.70, near=near), _loss(failed, 2.78)).differences
    assert turned.word == "noise"
    assert not compare(_loss(passed, 2.70, near=near), _loss(failed, 2.78)).worse
    assert [d.word for d in compare(_loss(passed, 2.70), _loss(failed, 2.78)).differences] == ["new"]
    assert [d.word for d in compare(_loss(passed, 2.30, near=near), _loss(failed, 4.8)).differences] == ["new"]


def test_targets_that_come_go_or_cannot_be_checked() -> None:
    one, two = _target(_result("shuffle", FAIL), name="a.py"), _target(_result("shuffle", PASS), name="b.py")
    came = compare(golden.report(two), golden.report(one, two))
    assert [(d.target, d.check, d.word) for d in came.differences] == [("a.py", "shuffle", "new")]
    went = compare(golden.report(one, two), golden.report(two))
    assert [(d.target, d.check, d.word) for d in went.differences] == [("a.py", "target", "left")]
    broken = golden.report(golden.unusable())
    change = compare(_of(PASS), broken)
    assert ([(d.check, d.word) for d in change.differences], change.worse) == ([("target", "new")], True)
    assert [(d.check, d.word) for d in compare(broken, _of(PASS)).differences] == [("target", "gone")]
    less = compare(
        golden.report(_target(_result("shuffle", FAIL), _result("dead-relu", SKIP))), golden.report(_target())
    )
    assert [(d.check, d.word) for d in less.differences] == [("shuffle", "left")]


def test_a_single_target_is_compared_whatever_it_is_called() -> None:
    change = compare(
        golden.report(_target(_result("shuffle", PASS), name="a.py")), golden.report(_target(_result("shuffle", FAIL)))
    )
    assert [d.word for d in change.differences] == ["new"]


def test_the_three_outputs_say_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = _loss(passed, 2.31), _loss(failed, 4.87)
    (tmp_path / "a.json").write_text(to_json(before))
    (tmp_path / "b.json").write_text(to_json(after))
    done = CliRunner().invoke(app, ["diff", "a.json", "b.json", "--markdown", "d.md", "--json", "d.json"])
    assert done.exit_code == 1
    assert done.output == "net.py\n  new  dead-relu: pass -> fail; loss 4.87\n         loss: 2.31 -> 4.87\n"
    markdown = (tmp_path / "d.md").read_text()
    assert "## nncheck: 1 new" in markdown
    assert "| new | `dead-relu` | pass | fail | loss 4.87<br>loss: 2.31 -> 4.87 |" in markdown
    [entry] = json.loads((tmp_path / "d.json").read_text())["differences"]
    assert entry["numbers"] == {"loss": {"before": 2.31, "after": 4.87, "noise": False}}
    again = CliRunner().invoke(app, ["diff", "b.json", "b.json", "--json", "-"])
    assert (again.exit_code, json.loads(again.output)["differences"]) == (0, [])


def test_what_the_user_wrote_stays_text() -> None:
    hostile = [_result(f"check-{k}", failed(text, expected="0")) for k, text in enumerate(golden.HOSTILE)]
    target = dataclasses.replace(golden.unusable(), target="net.py", problem=None, checks=tuple(hostile))
    change = compare(golden.report(dataclasses.replace(target, checks=())), golden.report(target))
    assert len(change.differences) == len(hostile)
    assert "<script>" not in diff_markdown(change)
    assert "<img" not in diff_markdown(change)
    assert "\x1b" not in "".join(diff_lines(change)) + diff_markdown(change) + diff_json(change)
