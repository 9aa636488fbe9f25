"""SARIF: Microsoft's validator with GitHub's rules finds nothing in it, and it says what the result says."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nncheck.report.json import from_json, to_json
from nncheck.report.sarif import MAX_RESULTS, MAX_RUNS, MAX_TEXT, to_sarif
from nncheck.verdict import Place, Report, Status, TargetResult
from tests.report import golden
from tests.report.marked import marked

PACKAGES = Path(__file__).parents[2] / "build" / "sarif" / "node_modules" / "@microsoft"

NAMES = ("a b/%41[x]#?.py", "netz/größe.py", "c:d.py", f"{golden.SURROGATE}", golden.BREAKOUT + ".py", "-- x.py")


def _hostile() -> Report:
    targets = []
    for name in NAMES:
        whole = golden.target(name)
        places = tuple(Place(name=text, file=f"x/{text}", line=3, detail=text, source=text) for text in golden.HOSTILE)
        checks = tuple(
            dataclasses.replace(r, verdict=dataclasses.replace(r.verdict, places=places, summary=golden.HOSTILE[k % 7]))
            for k, r in enumerate(whole.checks)
        )
        targets.append(dataclasses.replace(whole, checks=checks))
    return golden.report(*targets)


def _of_one_script() -> Report:
    names = ("gan.py -- --epochs 1 [Adam of netD]", "gan.py -- --epochs 1 [Adam of netG]", "gan.py -- --epochs 2")
    return golden.report(*map(golden.target, names))


def _partly_accepted() -> Report:
    target = golden.target()
    reason = Place(name="layer1", file="model.py", line=30, detail="frozen on purpose")
    checks = tuple(
        dataclasses.replace(r, accepted_places=(reason,)) if r.id == "loss-at-init" else r for r in target.checks
    )
    return golden.report(dataclasses.replace(target, checks=checks))


CASES = {
    "healthy": golden.report(golden.healthy()),
    "sick": golden.report(golden.target()),
    "several": golden.report(golden.target("a.py"), golden.healthy(), golden.target("pkg.nets:build")),
    "one-script": _of_one_script(),
    "could-not-run": golden.report(golden.unusable(), golden.target("a.py")),
    "interrupted": dataclasses.replace(golden.report(golden.target()), interrupted=True),
    "hostile": _hostile(),
    "marked": marked(),
    "partly-accepted": _partly_accepted(),
    "empty": golden.report(),
    "many": golden.report(*(golden.target(f"t{k}.py") for k in range(MAX_RUNS + 5))),
}


def _validator() -> Path:
    found = sorted(PACKAGES.glob("sarif-multitool-*/Sarif.Multitool"))
    assert found, "Microsoft's validator is not there: `make sarif` installs it, with npm"
    return found[0]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the validator says of each case, its notes apart. It starts .NET, so it is asked once."""
    folder = tmp_path_factory.mktemp("sarif")
    for name, report in CASES.items():
        (folder / f"{name}.sarif").write_text(to_sarif(report), encoding="utf-8")
    bad = json.loads(to_sarif(CASES["sick"]))
    del bad["runs"][0]["results"][0]["locations"], bad["runs"][0]["tool"]["driver"]["informationUri"]
    (folder / "damaged.sarif").write_text(json.dumps(bad), encoding="utf-8")
    log = folder / "log.json"
    subprocess.run(
        [_validator(), "validate", folder / "*.sarif", "--rule-kind", "Sarif;Ghas", "--output", log, "--quiet"],
        env={**os.environ, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
        timeout=300,
        stdout=subprocess.DEVNULL,
        check=False,  # it fails for the damaged one
    )
    (run,) = json.loads(log.read_text(encoding="utf-8-sig"))["runs"]
    assert not run["invocations"][0].get("toolExecutionNotifications")
    found: dict[str, list[str]] = {}
    for result in run["results"]:
        if result.get("level", "warning") in ("error", "warning"):
            uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            found.setdefault(Path(uri).stem, []).append(f"{result['ruleId']} {result['message']}")
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_validator_finds_no_error_and_no_warning(name: str, complaints: dict[str, list[str]]) -> None:
    assert complaints.get(name, []) == []


def test_the_validator_asks_with_githubs_rules_too(complaints: dict[str, list[str]]) -> None:
    said = " ".join(complaints["damaged"])
    assert "GH1" in said
    assert "SARIF2005" in said


@pytest.mark.parametrize("name", CASES)
def test_the_schema_of_the_standard_and_the_limits_hold(name: str) -> None:
    text = to_sarif(CASES[name])
    log = json.loads(text)
    schema = json.loads((_validator().parent / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(log)
    assert text.isascii()
    assert len(log["runs"]) <= MAX_RUNS
    ids = [run["automationDetails"]["id"] for run in log["runs"]]
    assert len(set(ids)) == len(ids), "GitHub takes each category once"
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        for rule in rules:
            texts = (rule["shortDescription"]["text"], rule["fullDescription"]["text"], rule["help"]["text"])
            assert all(texts)
            assert all(len(text) <= MAX_TEXT for text in texts[:2])
            assert rule["help"]["markdown"].startswith("## What it does")
            assert rule["properties"]["precision"] in ("very-high", "high")
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert 0 < len(result["message"]["text"]) <= MAX_TEXT
            region = result["locations"][0]["physicalLocation"]["region"]
            assert {"startLine", "startColumn", "endLine", "endColumn"} <= set(region)


def _results(report: Report) -> list[dict[str, Any]]:
    return [result for run in json.loads(to_sarif(report))["runs"] for result in run["results"]]


def _uris(report: Report) -> set[str]:
    return {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in _results(report)}


def test_every_finding_is_a_result_with_its_level() -> None:
    target = golden.target()
    levels = {r["ruleId"]: r["level"] for r in _results(golden.report(target))}
    said = {r.id: r.status for r in target.checks if r.is_finding}
    assert levels == {id: "error" if status is Status.FAIL else "warning" for id, status in said.items()}


def test_runs_are_kept_apart_by_target_and_a_script_has_one() -> None:
    def ids(report: Report) -> list[str]:
        return [run["automationDetails"]["id"] for run in json.loads(to_sarif(report))["runs"]]

    assert ids(CASES["several"])[0] == "nncheck/a.py/"
    assert ids(CASES["one-script"]) == ["nncheck/gan.py/"]
    assert ids(CASES["many"])[-1] == "nncheck/"
    many = Counter(r["ruleId"] for r in _results(CASES["many"]))
    assert set(many.values()) == {MAX_RUNS + 5}, "none is lost where they do not get a run each"


def test_accepted_findings_are_suppressed_with_the_reason_and_come_last() -> None:
    results = _results(marked())
    suppressed = {r["ruleId"]: r["suppressions"] for r in results if r["suppressions"]}
    reason = "sparse on purpose, see paper 3.2"
    assert suppressed == {"dead-relu": [{"kind": "external", "status": "accepted", "justification": reason}]}
    assert results[-1]["ruleId"] == "dead-relu"
    partly = [r for r in _results(CASES["partly-accepted"]) if r["ruleId"] == "loss-at-init"]
    assert [bool(r["suppressions"]) for r in partly] == [False, True]
    assert partly[1]["locations"][0]["physicalLocation"]["region"]["startLine"] == 30
    assert "suppressions" not in _results(CASES["sick"])[0]


def test_the_baseline_tells_new_from_known() -> None:
    states = {r["ruleId"]: r["baselineState"] for r in _results(marked())}
    assert states["batch-mixing"] == "unchanged"
    assert states["loss-at-init"] == "new"
    assert "shuffle" not in states, "what is resolved is absent"
    assert not any("baselineState" in r for r in _results(CASES["sick"]))


def test_what_kept_nncheck_from_its_work_is_a_notification() -> None:
    def invocation(name: str) -> dict[str, Any]:
        found = json.loads(to_sarif(CASES[name]))["runs"][0]["invocations"][0]
        assert isinstance(found, dict)
        return found

    assert not invocation("could-not-run")["executionSuccessful"]
    assert not invocation("interrupted")["executionSuccessful"]
    assert invocation("healthy")["executionSuccessful"]
    (crash,) = invocation("sick")["toolExecutionNotifications"]
    assert crash["associatedRule"] == {"id": "gradient-check"}
    assert "nncheck.toml:12" in invocation("marked")["toolConfigurationNotifications"][0]["message"]["text"]


def _placed(*places: Place, **changes: str) -> Report:
    """The golden target, its first finding at these places."""
    whole = golden.target()
    checks = tuple(
        dataclasses.replace(r, verdict=dataclasses.replace(r.verdict, places=places)) if r.id == "dead-relu" else r
        for r in whole.checks
        if r.id == "dead-relu" or not r.is_finding
    )
    target: TargetResult = dataclasses.replace(whole, checks=checks, findings=("dead-relu",))
    return dataclasses.replace(golden.report(target), **changes)


def test_paths_are_seen_from_the_root_of_the_repository() -> None:
    beside = Place(name="relu", file="../lib/net.py", line=3)
    assert _uris(_placed(beside, folder="experiments/vision")) == {"experiments/lib/net.py"}
    inside = Place(name="relu", file="a b/%5[é]:.py", line=3)
    assert _uris(_placed(inside)) == {"a%20b/%255%5B%C3%A9%5D%3A.py"}


@pytest.mark.parametrize("file", ["/home/ada/lib/net.py", "../../elsewhere/net.py", "C:\\Users\\ada\\net.py"])
def test_a_place_outside_the_repository_is_told_at_the_targets_own_file(file: str) -> None:
    report = _placed(Place(name="relu", file=file, line=3), folder="experiments")
    assert _uris(report) == {"experiments/examples/digits_cnn.py"}
    assert "ada" not in to_sarif(report)
    both = _placed(Place(name="relu", file=file, line=3), Place(name="relu", file="net.py", line=5))
    assert _uris(both) == {"net.py"}


def test_home_folders_are_not_told() -> None:
    target = dataclasses.replace(
        golden.unusable(), problem="FileNotFoundError: '/home/ada/data/x.csv' in C:\\Users\\ada\\x"
    )
    text = to_sarif(golden.report(target))
    assert "ada" not in text.replace(target.target, "")
    assert "~/data/x.csv" in text


def test_a_region_runs_from_the_first_character_of_the_call_to_its_last() -> None:
    place = Place(name="fc", file="net.py", line=3, column=9, end_line=6, end_column=2, source="self.fc = nn.Linear(")
    region = _results(_placed(place))[0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 3, "startColumn": 9, "endLine": 6, "endColumn": 2}


def test_further_lines_are_related_locations_once_each() -> None:
    places = [Place(name=f"layers.{k}", file="net.py", line=3 + k // 2) for k in range(40)]
    related = _results(_placed(*places))[0]["relatedLocations"]
    lines = [entry["physicalLocation"]["region"]["startLine"] for entry in related]
    assert lines == list(range(4, 14))


def test_text_that_would_be_a_link_is_none() -> None:
    target = dataclasses.replace(golden.unusable(), problem="see [here](1)")
    assert "[here](1)" not in to_sarif(golden.report(target))


def test_a_saved_result_gives_the_same() -> None:
    for report in (marked(), _hostile()):
        assert to_sarif(from_json(to_json(report))) == to_sarif(report)


def test_no_more_results_than_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_RESULTS == 25_000
    monkeypatch.setattr("nncheck.report.sarif.MAX_RESULTS", 2)
    assert [r["level"] for r in _results(CASES["sick"])] == ["error", "error"]
