"""GitHub Actions: annotations within the limits, that nothing can forge, and a summary that fits."""

import dataclasses
import re

from nncheck.report.github import MAX_ANNOTATIONS, MAX_SUMMARY_BYTES, annotation_lines, job_summary, step_outputs
from nncheck.verdict import CheckResult, Place, Report, Stage, TargetResult, failed, warned
from tests.report import golden
from tests.report.marked import marked

COMMAND = re.compile(r"::(error|warning)( [a-zA-Z]+=[^:,\r\n]*(,[a-zA-Z]+=[^:,\r\n]*)*)?::[^\r\n]*")


def _finding(k: int, *, place: Place | None = None, fails: bool = True) -> CheckResult:
    said = failed if fails else warned
    return CheckResult(
        id=f"check-{k}",
        stage=Stage.INIT,
        verdict=said(f"measured {k}", expected="0", places=(place,) if place else ()),
        seconds=0.1,
        doc=golden.doc(f"check-{k}"),
    )


def _report(*results: CheckResult, folder: str = "") -> Report:
    empty = golden.unusable()
    target: TargetResult = dataclasses.replace(empty, target="train.py", checks=results, problem=None)
    return dataclasses.replace(golden.report(target), folder=folder)


def test_a_finding_is_shown_at_its_line_as_the_root_sees_it() -> None:
    place = Place(name="head", file="models/net.py", line=41, column=9, end_line=41, end_column=30)
    [line] = annotation_lines(_report(_finding(1, place=place), folder="experiments/a b"))
    assert line.startswith(
        "::error file=experiments/a b/models/net.py,line=41,endLine=41,col=9,endColumn=30,title=nncheck check-1::measured 1"
    )
    assert "%0Aexpected: 0%0Ahelp: " in line
    assert line.endswith("%0Amore: nncheck explain check-1")


def test_columns_are_left_out_where_the_region_has_several_lines() -> None:
    [line] = annotation_lines(_report(_finding(1, place=Place(name="a", file="a.py", line=3, column=5, end_line=6))))
    assert "line=3,endLine=6,title=" in line


def test_a_place_outside_the_repository_is_told_at_the_target() -> None:
    for file in ("/usr/lib/python3/site-packages/lib.py", "../../other/x.py"):
        [line] = annotation_lines(_report(_finding(1, place=Place(name="a", file=file, line=3)), folder="one"))
        assert "file=one/train.py,line=1,title=" in line


def test_the_worst_come_first_and_no_more_than_are_shown() -> None:
    many = [*(_finding(k, fails=False) for k in range(15)), *(_finding(k) for k in range(15, 40))]
    lines = annotation_lines(_report(*many))
    kinds = [line.split()[0] for line in lines]
    assert kinds == ["::error"] * MAX_ANNOTATIONS + ["::warning"] * MAX_ANNOTATIONS
    assert lines[MAX_ANNOTATIONS - 1] == "::error title=nncheck::16 more are in the job's summary"
    assert lines[-1] == "::warning title=nncheck::6 more are in the job's summary"


def test_what_somebody_has_seen_is_not_annotated() -> None:
    said = "\n".join(annotation_lines(marked()))
    assert "title=nncheck loss-at-init" in said
    assert "title=nncheck gradient-check" in said
    for id in ("dead-relu", "batch-mixing", "double-softmax"):
        assert f"title=nncheck {id}" not in said


def test_nothing_of_the_user_can_forge_a_command() -> None:
    hostile = [
        *golden.HOSTILE,
        "a\n::set-env name=X::y",
        "%0A::error::z",
        "a,line=1::b",
        "##[error]x",
        "a\r\n::error::b",
    ]
    results = [
        dataclasses.replace(
            _finding(k, place=Place(name=text, file=text, line=1)),
            verdict=failed(text, expected=text, places=(Place(name=text, file=f"{text}.py", line=1),)),
        )
        for k, text in enumerate(hostile[:9])
    ]
    for line in annotation_lines(_report(*results)):
        assert COMMAND.fullmatch(line), line
        assert line.count("\n") == 0
    problem = dataclasses.replace(golden.unusable(), target="x,file=y::z.py", problem="\n".join(hostile))
    [line] = annotation_lines(golden.report(problem))
    assert COMMAND.fullmatch(line), line


def test_the_summary_fits_and_says_what_was_cut() -> None:
    whole = job_summary(golden.report())
    assert whole.startswith("## nncheck: 3 problems found")
    assert "Every check" in whole
    for room in (len(whole.encode()) - 1, 4000, 1500, 200):
        cut = job_summary(golden.report(), room=room)
        assert len(cut.encode()) <= room
        assert "did not fit" in cut
    big = _report(*(_finding(k) for k in range(3000)))
    assert len(job_summary(big).encode()) <= MAX_SUMMARY_BYTES


def test_a_step_tells_later_ones_what_is_new_and_where_the_files_lie() -> None:
    files = {"report": "/home/runner/work/a b/r=1.html", "sarif": "two\nverdict=pass"}
    assert step_outputs(_report(_finding(1), _finding(2, fails=False)), files).splitlines() == [
        "verdict=fail",
        "findings=2",
        "report=/home/runner/work/a b/r=1.html",
    ]
    known = dataclasses.replace(_finding(1), known=True)
    accepted = dataclasses.replace(_finding(2), accepted="on purpose")
    assert step_outputs(_report(known, accepted), {}) == "verdict=pass\nfindings=0\n"
    assert step_outputs(_report(known, _finding(2, fails=False)), {}) == "verdict=warn\nfindings=1\n"
    assert step_outputs(golden.report(golden.unusable()), {}) == "verdict=error\nfindings=0\n"
    stopped = dataclasses.replace(_report(known), interrupted=True)
    assert step_outputs(stopped, {}) == "verdict=error\nfindings=0\n"
