"""The life of a repository with nncheck in its CI: what is accepted and known stays silent, what is planted fails at its line."""

import json
import re

import pytest

from tests.gate.sample import BASELINE, Repository, make_repository

GATE = ("nncheck", "run", "--cache", "--baseline", BASELINE)
OUTPUTS = ("--sarif", "nncheck-findings.sarif", "--json", "nncheck-report.json")


def _gate(repository: Repository, *more: str) -> tuple[int, str, str]:
    """One run as in a job: exit code, what the log shows, and what the job's summary gained."""
    summary = repository.folder.parent / "summary.md"
    summary.unlink(missing_ok=True)
    done = repository.run(*GATE, *more, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    return done.returncode, done.stdout + done.stderr, summary.read_text(encoding="utf-8")


def _annotations(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("::")]


def _new_in_sarif(repository: Repository) -> list[tuple[str, str, int]]:
    log = json.loads((repository.folder / "nncheck-findings.sarif").read_text(encoding="utf-8"))
    results = [result for run in log["runs"] for result in run["results"]]
    places = [
        (result, result["locations"][0]["physicalLocation"]) for result in results if "suppressions" not in result
    ]
    return [
        (result["ruleId"], place["artifactLocation"]["uri"], place["region"]["startLine"])
        for result, place in places
        if result["baselineState"] == "new"
    ]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """With what nncheck found when it was taken up, in the baseline."""
    made = make_repository(tmp_path_factory.mktemp("gate") / "research")
    done = made.run(*GATE, "--update-baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    made.commit("nncheck: what is known today")
    return made


def test_what_is_broken_and_new_fails_at_its_line_and_nothing_else_is_heard(repository: Repository) -> None:
    known = json.loads((repository.folder / BASELINE).read_text(encoding="utf-8"))["findings"]
    assert {(entry["target"], entry["check"]) for entry in known} == {("models/diabetes.py", "loss-broadcast")}

    code, log, summary = _gate(repository)
    assert (code, _annotations(log)) == (0, []), log
    assert "0 new, 1 known, 0 resolved" in log
    assert "accepted[shuffle] in models/views.py: a curriculum: the easy digits first" in log
    assert log.count("not run again") == 3, log
    assert "0 new, 1 known, 0 resolved" in summary

    repository.plant()
    hunk = re.search(r"^@@ -\d+ \+(\d+) @@", repository.git("diff", "--unified=0"), re.MULTILINE)
    assert hunk is not None
    line = int(hunk[1])
    repository.commit("Probabilities are nicer to look at")
    code, log, summary = _gate(repository, *OUTPUTS)
    assert code == 1, log
    assert log.count("not run again") == 2, log
    [annotation] = _annotations(log)
    assert annotation.startswith(f"::error file=models/digits.py,line={line},endLine={line},col=16,endColumn=43,")
    assert "1 new, 1 known, 0 resolved" in log
    assert "1 new, 1 known, 0 resolved" in summary
    assert _new_in_sarif(repository) == [("double-softmax", "models/digits.py", line)]

    repository.mend()
    repository.commit("The loss is given the raw outputs")
    code, log, summary = _gate(repository, *OUTPUTS)
    assert (code, _annotations(log), _new_in_sarif(repository)) == (0, [], []), log
    assert "0 new, 1 known, 0 resolved" in summary
    assert repository.git("status", "--porcelain") == ""
