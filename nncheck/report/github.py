"""What GitHub Actions shows by itself: annotations at the user's lines, the summary of the job, and outputs of the step.

The runner obeys lines that begin with `::` and shows of each step the first ten errors and ten warnings, so one line a
finding is written, worst first. Escapes as in its own toolkit (actions/toolkit, `core/src/command.ts`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nncheck.report.markdown import to_markdown
from nncheck.report.paths import from_root, target_file
from nncheck.report.text import findings, first_sentence, one_line, shorten, untold
from nncheck.verdict import CheckResult, Place, Report, Status, TargetResult

# Of each kind and step; what comes after is dropped by the runner (actions/toolkit, pull request 734).
MAX_ANNOTATIONS = 10

# An annotation is a note beside a line, not a report; GitHub cuts it at 64 KB.
MAX_MESSAGE = 2000

# A step's summary above 1 MiB is not shown at all (docs.github.com, "Workflow commands", step isolation and limits).
MAX_SUMMARY_BYTES = 1024 * 1024

_KINDS = {Status.FAIL: "error", Status.WARN: "warning", Status.ERROR: "error"}


def annotation_lines(report: Report) -> list[str]:
    """One workflow command for each new finding and each target that could not be checked, worst first, within the limits.

    What is accepted or known has been seen by somebody: it is left to the summary.
    """
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for target in report.targets:
        if target.problem is not None:
            lines["error"].append(_problem(report, target))
        for result in [*findings(target), *untold(target)]:
            if not result.known:
                kind = _KINDS[result.status]
                lines[kind].append(_annotation(report, target, result, kind))
    shown: list[str] = []
    for kind, of_kind in lines.items():
        if len(of_kind) > MAX_ANNOTATIONS:
            rest = len(of_kind) - MAX_ANNOTATIONS + 1
            of_kind = [*of_kind[: MAX_ANNOTATIONS - 1], f"::{kind} title=nncheck::{rest} more are in the job's summary"]
        shown += of_kind
    return shown


def job_summary(report: Report, *, room: int = MAX_SUMMARY_BYTES) -> str:
    """The result as Markdown in at most `room` bytes: without the checks that found nothing, then cut at a paragraph."""
    text = to_markdown(report)
    if len(text.encode("utf-8", "replace")) <= room:
        return text
    short = dataclasses.replace(
        report,
        targets=tuple(
            dataclasses.replace(t, checks=tuple(r for r in t.checks if r.is_finding)) for t in report.targets
        ),
    )
    note = "\n\nThe rest did not fit into a job's summary; it is in the report.\n"
    room -= len(note)
    text = to_markdown(short).rstrip("\n")
    if len(text.encode("utf-8", "replace")) > room:
        text = text.encode("utf-8", "replace")[: max(room, 0)].decode("utf-8", "ignore")
        text = text.rpartition("\n\n")[0] or text
    return text + note


def step_outputs(report: Report, files: Mapping[str, str]) -> str:
    """Lines for $GITHUB_OUTPUT: `verdict` and `findings` of what is new, and where each of the `files` lies.

    verdict: pass, warn, fail or error, whatever `fail_on` makes of it.
    """
    new = dataclasses.replace(
        report,
        targets=tuple(
            dataclasses.replace(
                t, checks=tuple(dataclasses.replace(r, accepted="known") if r.known else r for r in t.checks)
            )
            for t in report.targets
        ),
    )
    found = sum(result.is_finding for target in new.targets for result in target.checks)
    values = {"verdict": "error" if report.interrupted else new.verdict, "findings": str(found), **files}
    return "".join(f"{name}={value}\n" for name, value in values.items() if len(value.splitlines()) == 1)


def _annotation(report: Report, target: TargetResult, result: CheckResult, kind: str) -> str:
    verdict = result.verdict
    said = [result.summary]
    if verdict.measured and verdict.measured != result.summary:
        said.append(f"measured: {verdict.measured}")
    if verdict.expected:
        said.append(f"expected: {verdict.expected}")
    help = verdict.remedies[0].text if verdict.remedies else first_sentence(result.doc.fix)
    if help and result.status is not Status.ERROR:
        said.append(f"help: {help}")
    said.append(f"more: nncheck explain {result.id}")
    place = next((p for p in verdict.places if p.file is not None and from_root(report, p.file) is not None), None)
    message = "\n".join(shorten(one_line(text), MAX_MESSAGE) for text in said)
    return _command(kind, {**_spot(report, target, place), "title": f"nncheck {result.id}"}, message)


def _problem(report: Report, target: TargetResult) -> str:
    said = "\n".join(one_line(line) for line in (target.problem or "").splitlines()[:20])
    title = {"title": f"nncheck could not check {one_line(target.target)}"}
    return _command("error", {**_spot(report, target, None), **title}, shorten(said, MAX_MESSAGE))


def _spot(report: Report, target: TargetResult, place: Place | None) -> dict[str, str]:
    """Where it is, as the command's properties."""
    if place is None or place.file is None:
        file = target_file(report, target)
        return {} if file is None else {"file": file, "line": "1"}
    spot = {"file": from_root(report, place.file) or "", "line": str(place.line or 1)}
    optional = {"endLine": place.end_line, "col": place.column, "endColumn": place.end_column}
    if place.end_line not in (None, place.line):  # GitHub wants columns only within one line
        optional = {"endLine": place.end_line}
    return spot | {name: str(value) for name, value in optional.items() if value is not None}


def _command(kind: str, properties: dict[str, str], message: str) -> str:
    written = ",".join(f"{name}={_property(one_line(value))}" for name, value in properties.items() if value)
    return f"::{kind} {written}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
