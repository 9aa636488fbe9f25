"""The findings as SARIF 2.1.0, as GitHub's code scanning reads it: one result a finding, placed at the user's line."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Any

from nncheck.verdict import CheckResult, Doc, Place, Report, Status, TargetResult

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

# GitHub cuts longer descriptions off.
MAX_TEXT = 1024

_LEVELS = {Status.FAIL: "error", Status.WARN: "warning"}


def to_sarif(report: Report) -> str:
    """The whole log, one run."""
    docs = {result.id: result for target in report.targets for result in target.checks}
    rules = [_rule(result) for result in docs.values()]
    index = {id: number for number, id in enumerate(docs)}
    results = [_result(target.check(id), target, index[id]) for target in report.targets for id in target.findings]
    problems = [
        {"level": "error", "message": {"text": f"{target.target}: {target.problem}"}}
        for target in report.targets
        if target.problem is not None
    ]
    problems += [
        {"level": "error", "message": {"text": f"{result.id}: {result.summary}"}, "associatedRule": {"id": result.id}}
        for target in report.targets
        for result in target.checks
        if result.status is Status.ERROR
    ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "nncheck",
                "version": report.nncheck_version,
                "semanticVersion": report.nncheck_version,
                "rules": rules,
            }
        },
        "automationDetails": {"id": "nncheck/" + ",".join(target.target for target in report.targets)},
        "invocations": [
            {
                "executionSuccessful": not (report.could_not_run or report.interrupted),
                "exitCode": report.exit_code,
                "toolExecutionNotifications": problems,
            }
        ],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def _rule(result: CheckResult) -> dict[str, Any]:
    doc = result.doc
    return {
        "id": result.id,
        "shortDescription": {"text": _cut(doc.title) or result.id},
        "fullDescription": {"text": _cut(doc.what) or result.id},
        "help": {"text": _help(doc) or result.id},
        "properties": {"tags": [str(result.stage)]},
    }


def _help(doc: Doc) -> str:
    parts = (("Why it matters", doc.why), ("How to fix", doc.fix), ("Known limits", doc.limits))
    return "\n\n".join(f"{head}: {text}" for head, text in parts if text)


def _result(result: CheckResult, target: TargetResult, rule: int) -> dict[str, Any]:
    verdict = result.verdict
    said = [result.summary.rstrip(".") + "."]
    if verdict.measured and verdict.measured != result.summary:
        said.append(f"Measured: {verdict.measured}.")
    if verdict.expected:
        said.append(f"Expected: {verdict.expected}.")
    if verdict.remedies:
        said.append(f"To do: {verdict.remedies[0].text}.")
    places = [place for place in verdict.places if place.file]
    if not places:
        places = [Place(name=target.model, file=target.target.partition(".py:")[0].removesuffix(".py") + ".py", line=1)]
    # Without numbers and lines: the same finding keeps its identity when the file moves under it.
    identity = "\0".join((target.target, result.id, verdict.places[0].name if verdict.places else ""))
    return {
        "ruleId": result.id,
        "ruleIndex": rule,
        "level": _LEVELS[result.status],
        "message": {"text": " ".join(said)},
        "locations": [_location(place) for place in places[:1]],
        "relatedLocations": [
            {"id": number, "message": {"text": place.name or result.id}, **_location(place)}
            for number, place in enumerate(places[1:10], start=1)
        ],
        "partialFingerprints": {"nncheck/v1": hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()},
    }


def _location(place: Place) -> dict[str, Any]:
    path = PurePath(place.file or "")
    uri = path.as_uri() if path.is_absolute() else path.as_posix()
    line = place.line or 1
    region: dict[str, Any] = {"startLine": line, "startColumn": 1, "endLine": line}
    if place.source:
        region["snippet"] = {"text": place.source}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(uri)}, "region": region}}
    if place.name:
        location["logicalLocations"] = [{"name": place.name}]
    return location


def _uri(path: str) -> str:
    from urllib.parse import quote

    return path if path.startswith("file:") else quote(path)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
