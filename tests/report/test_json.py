"""The result file: what is promised of it, and that it can be read back."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from nncheck.report.json import from_dict, from_json, to_dict, to_json
from nncheck.verdict import Report, Status, TargetResult
from tests.report import golden
from tests.report.marked import marked
from tests.report.saved import FOLDER, same_as_saved


def reports() -> list[Report]:
    whole = golden.report()
    several = golden.report(golden.healthy(), golden.target(), golden.unusable())
    return [
        whole,
        several,
        replace(whole, interrupted=True),
        replace(whole, fail_on="never"),
        replace(whole, targets=()),
        replace(marked(), targets=(_partly_accepted(), *marked().targets)),
    ]


def _partly_accepted() -> TargetResult:
    """A finding at a level of the configuration's, accepted in one of its places."""
    target = golden.target()
    first = next(result for result in target.checks if result.id == "loss-at-init")
    place, *others = first.verdict.places
    changed = replace(
        first, verdict=replace(first.verdict, places=tuple(others)), accepted_places=(place,), declared=Status.WARN
    )
    return replace(target, checks=tuple(changed if result is first else result for result in target.checks))


@pytest.mark.parametrize("k", range(6))
def test_round_trip_and_schema(k: int) -> None:
    report = reports()[k]
    text = to_json(report)
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    jsonschema.validate(data, json.loads((FOLDER / "result.schema.json").read_text()))
    again = from_json(text)
    assert to_dict(again) == data == to_dict(report)
    assert (again.outcome, again.verdict, again.exit_code) == (report.outcome, report.verdict, report.exit_code)
    assert text.isascii()


def test_saved_result_reads_as_it_did() -> None:
    same_as_saved("result.json", to_json(golden.report()))
    assert to_dict(from_json((FOLDER / "result.json").read_text())) == to_dict(golden.report())


def test_numbers() -> None:
    checks = {entry["id"]: entry for entry in to_dict(golden.report())["targets"][0]["checks"]}
    assert checks["loss-at-init"]["numbers"] == {"loss": 4.8678, "expected": 2.3026, "z": "Infinity"}
    bars = checks["double-softmax"]["exhibits"][0]["values"]
    assert bars == [1.0, 0.0, "NaN", "Infinity", "-Infinity", 2.0, 3.0]
    curve = checks["overfit-batch"]["exhibits"][0]["lines"][0]["y"]
    assert all(value == float(f"{value:.4g}") for value in curve)
    samples = from_dict(to_dict(golden.report())).targets[0].checks[0].verdict.exhibits[0]
    assert samples == golden.samples()


def test_absent_fields_are_absent() -> None:
    entry = to_dict(golden.report())["targets"][0]
    checks = {check["id"]: check for check in entry["checks"]}
    assert "problem" not in entry
    assert "why_skipped" not in checks["symmetry"]
    assert checks["saturation"]["why_skipped"] == checks["saturation"]["summary"]
    assert set(checks["loss-at-init"]["places"][2]) == {"name", "detail"}


def test_unknown_fields_and_exhibits_are_passed_over() -> None:
    data = to_dict(golden.report())
    data["colour"] = "green"
    data["targets"][0]["mood"] = {"good": True}
    data["targets"][0]["checks"][0]["exhibits"].append({"kind": "hologram", "title": "of tomorrow"})
    data["targets"][0]["checks"][0]["extra"] = 1
    assert to_dict(from_dict(data)) == to_dict(golden.report())


def test_only_what_is_needed() -> None:
    check = {"id": "symmetry", "stage": "init", "status": "pass", "measured": "fine"}
    report = from_dict({"schema_version": 1, "targets": [{"target": "a.py", "checks": [check]}]})
    assert report.verdict == "pass"
    assert report.targets[0].checks[0].summary == "fine"
    assert math.isclose(report.seconds, 0.0)


def _broken(change: str) -> Any:
    data = copy.deepcopy(to_dict(golden.report()))
    check = data["targets"][0]["checks"][0]
    match change:
        case "status":
            check["status"] = "splendid"
        case "id":
            del check["id"]
        case "targets":
            del data["targets"]
        case "version":
            data["schema_version"] = 2
        case "version type":
            data["schema_version"] = "one"
        case "findings":
            data["targets"][0]["findings"] = "loss-at-init"
        case "pixels":
            check["exhibits"][0]["samples"][0]["width"] = 17
        case "base64":
            check["exhibits"][0]["samples"][0]["pixels"] = "?!"
        case "fail_on":
            data["fail_on"] = "always"
        case "huge":
            check["seconds"] = 10**400
        case "list":
            return [data]
        case "environment":
            data["environment"] = 3
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("status", "splendid"),
        ("id", "no 'id'"),
        ("targets", "no 'targets'"),
        ("version", "schema_version 2"),
        ("version type", "'one'"),
        ("findings", "a list is needed"),
        ("pixels", "no picture of 17 x 16 x 1"),
        ("base64", "not an nncheck result"),
        ("fail_on", "always"),
        ("huge", "too large"),
        ("list", "no schema_version"),
        ("environment", "not an nncheck result"),
    ],
)
def test_what_is_no_result_is_told(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(_broken(change))


def test_what_is_no_json_is_told() -> None:
    for text in ("<html>", "[" * 200_000):
        with pytest.raises(ValueError, match="not JSON"):
            from_json(text)
