"""The findings as SARIF 2.1.0, as GitHub's code scanning reads it: a run for each target, a result for each finding.

A run holds one target, since GitHub closes and opens alerts by category (the part of `automationDetails.id` before its last
slash): a target that is added or left out never touches the alerts of another.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable
from typing import Any

from nncheck.report.identity import fingerprint, target_key
from nncheck.report.paths import split_target, without_home
from nncheck.report.sarif_places import locations
from nncheck.report.text import clean, findings, one_line
from nncheck.verdict import CheckResult, Doc, Report, Status, TargetResult

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

# Where the recipe is written that the checks work through.
ABOUT = "https://karpathy.github.io/2019/04/25/recipe/"

# Of GitHub: characters of a text, runs of a file, results of a run (docs.github.com, "SARIF support for code scanning").
MAX_TEXT = 1024
MAX_RUNS = 20
MAX_RESULTS = 25_000

_LEVELS = {Status.FAIL: "error", Status.WARN: "warning"}

# Of the healthy set-ups that nobody had seen before they were scored, 5 of 278 were failed and 5 warned of, by 51 checks; of
# all 514 now none is (README). A check warns where it is less sure.
_PRECISION = {"error": "very-high", "warning": "high"}


def to_sarif(report: Report) -> str:
    """The whole log."""
    groups = _groups(report)
    if len(groups) > MAX_RUNS:
        last = [target for _, targets in groups[MAX_RUNS - 1 :] for target in targets]
        groups = [*groups[: MAX_RUNS - 1], ("", last)]
    runs = [_run(report, name, targets) for name, targets in groups or [("", [])]]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": runs}, indent=1, allow_nan=False) + "\n"


def _groups(report: Report) -> list[tuple[str, list[TargetResult]]]:
    """The targets by what GitHub may see only once: a script's optimizers, and the same script with other arguments."""
    groups: dict[str, list[TargetResult]] = {}
    for target in report.targets:
        name = split_target(target_key(target))[0]
        groups.setdefault(name, []).append(target)
    return list(groups.items())


def _run(report: Report, name: str, targets: list[TargetResult]) -> dict[str, Any]:
    by_rule: dict[str, list[CheckResult]] = {}
    for target in targets:
        for result in target.checks:
            by_rule.setdefault(result.id, []).append(result)
    index = {id: number for number, id in enumerate(by_rule)}
    results = [entry for target in targets for entry in _results(report, target, index)]
    results.sort(key=lambda entry: ("suppressions" in entry, entry["level"] != "error"))
    if any(entry.get("suppressions") for entry in results):
        for entry in results:  # all of a run say it, or none
            entry.setdefault("suppressions", [])
    return {
        "tool": {
            "driver": {
                "name": "nncheck",
                "version": report.nncheck_version,
                "semanticVersion": report.nncheck_version,
                "informationUri": ABOUT,
                "rules": [_rule(rule) for rule in by_rule.values()],
            }
        },
        "automationDetails": {"id": f"nncheck/{name}/" if name else "nncheck/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
        "invocations": [_invocation(report, targets)],
        "results": results[:MAX_RESULTS],
    }


def _invocation(report: Report, targets: list[TargetResult]) -> dict[str, Any]:
    problems = [_note("error", f"{t.target}: {t.problem}") for t in targets if t.problem is not None]
    for target in targets:
        for result in target.checks:
            if result.status is Status.ERROR:
                problems.append(_note("error", f"{result.id}: {result.summary}", result.id))
    if report.interrupted:
        problems.append(_note("error", "The run was interrupted: checks that were still to be asked are missing."))
    invocation: dict[str, Any] = {
        "executionSuccessful": not problems and bool(targets),
        "exitCode": report.exit_code,
        "toolExecutionNotifications": problems,
        "toolConfigurationNotifications": [_note("warning", notice) for notice in report.notices],
    }
    try:
        ended = datetime.datetime.fromisoformat(report.created)
    except ValueError:
        return invocation
    if ended.tzinfo is not None:
        invocation["endTimeUtc"] = f"{ended.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return invocation


def _note(level: str, text: str, rule: str = "") -> dict[str, Any]:
    note: dict[str, Any] = {"level": level, "message": {"text": _message(text)}}
    return note | ({"associatedRule": {"id": rule}} if rule else {})


def _rule(results: list[CheckResult]) -> dict[str, Any]:
    """A check, with the worst that it says in this run as its level."""
    first = results[0]
    doc = first.doc
    statuses = {result.status for result in results}
    level = "warning" if Status.WARN in statuses and Status.FAIL not in statuses else "error"
    return {
        "id": first.id,
        "shortDescription": {"text": _cut(doc.title) or first.id},
        "fullDescription": {"text": _cut(doc.what) or first.id},
        "help": {"text": _help(doc, "{}:") or first.id, "markdown": _help(doc, "## {}") or first.id},
        "defaultConfiguration": {"level": level},
        "properties": {
            "precision": _PRECISION[level],
            "problem.severity": level,
            "tags": ["pytorch", str(first.stage)],
        },
    }


def _help(doc: Doc, heading: str) -> str:
    parts = {
        "What it does": doc.what,
        "Why it matters": doc.why,
        "How to fix": doc.fix,
        "Known limits": doc.limits,
        "Source": doc.source,
    }
    return "\n\n".join(f"{heading.format(head)}\n\n{clean(text)}" for head, text in parts.items() if text)


def _results(report: Report, target: TargetResult, index: dict[str, int]) -> Iterable[dict[str, Any]]:
    """The findings in the order of reading, then what is accepted, each with the reason."""
    for result in findings(target):
        yield _result(report, target, result, index[result.id])
    for result in target.checks:
        if result.accepted:
            yield _result(report, target, result, index[result.id]) | _suppressed(result.accepted)
        for reason in dict.fromkeys(place.detail for place in result.accepted_places):
            places = tuple(place for place in result.accepted_places if place.detail == reason)
            there = dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, places=places))
            yield _result(report, target, there, index[result.id]) | _suppressed(reason)


def _suppressed(reason: str) -> dict[str, Any]:
    return {"suppressions": [{"kind": "external", "status": "accepted", "justification": _message(reason)}]}


def _result(report: Report, target: TargetResult, result: CheckResult, rule: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "ruleId": result.id,
        "ruleIndex": rule,
        "level": _LEVELS[result.status],
        "message": {"text": _message(_says(result))},
        **locations(report, target, result),
        "partialFingerprints": {"nncheck/v1": fingerprint(target, result)},
    }
    if report.baseline is not None:
        entry["baselineState"] = "unchanged" if result.known else "new"
    return entry


def _says(result: CheckResult) -> str:
    verdict = result.verdict
    said = [result.summary]
    if verdict.measured and verdict.measured != result.summary:
        said.append(f"Measured: {verdict.measured}")
    if verdict.expected:
        said.append(f"Expected: {verdict.expected}")
    if verdict.remedies:
        said.append(f"To do: {verdict.remedies[0].text}")
    return " ".join(f"{one_line(text).rstrip('.')}." for text in said)


def _message(text: str) -> str:
    """One line without a person's home folder in it. `[text](1)` would be a link to a place of ours."""
    return _cut(without_home(one_line(text)).replace("](", "] ("))


def _cut(text: str) -> str:
    text = clean(text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
