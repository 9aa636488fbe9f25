"""GitLab's code quality report: its fields, the severities it knows, paths and fingerprints."""

import dataclasses
import json

from nncheck.report.gitlab import to_gitlab
from nncheck.verdict import Place, Report, Stage, Status, failed
from tests.report import golden
from tests.report.marked import marked

REQUIRED = {"description", "check_name", "fingerprint", "severity", "location"}


def _entries(report: Report) -> list[dict]:
    text = to_gitlab(report)
    assert not text.startswith("\ufeff")
    return json.loads(text)


def test_the_fields_are_those_that_gitlab_reads() -> None:
    entries = _entries(golden.report(golden.target(), golden.healthy(), golden.unusable()))
    assert [entry["check_name"] for entry in entries] == [*golden.target().findings, "gradient-check", "target"]
    for entry in entries:
        assert set(entry) == REQUIRED
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert isinstance(entry["location"]["lines"]["begin"], int)
        assert not entry["location"]["path"].startswith(("/", "./", ".."))
        assert "\n" not in entry["description"]
    assert len({entry["fingerprint"] for entry in entries}) == len(entries)
    by_id = {entry["check_name"]: entry for entry in entries}
    assert by_id["loss-at-init"]["location"] == {"path": "model.py", "lines": {"begin": 41}}
    assert by_id["loss-at-init"]["severity"] == "critical"
    assert by_id["output-bias-init"]["severity"] == "major"
    assert by_id["target"]["location"]["path"] == "broken.py"


def test_nothing_found_is_an_empty_list() -> None:
    assert to_gitlab(golden.report(golden.healthy())) == "[]\n"


def test_accepted_findings_are_left_out_and_known_ones_are_for_gitlab_to_compare() -> None:
    ids = [entry["check_name"] for entry in _entries(marked())]
    assert "dead-relu" not in ids
    assert {"batch-mixing", "double-softmax"} <= set(ids)
    assert all(entry["location"]["path"].startswith("experiments/vision/") for entry in _entries(marked()))


def test_a_moved_line_and_another_figure_leave_the_fingerprint() -> None:
    def prints(line: int, figure: str) -> list[str]:
        whole = golden.target()
        verdict = failed(figure, expected="0", places=(Place(name="head", file="m.py", line=line),))
        result = dataclasses.replace(whole.check("loss-at-init"), verdict=verdict, stage=Stage.INIT)
        assert result.status is Status.FAIL
        report = golden.report(dataclasses.replace(whole, checks=(result,), findings=(result.id,)))
        return [entry["fingerprint"] for entry in _entries(report)]

    assert prints(41, "4.87") == prints(57, "4.91")
