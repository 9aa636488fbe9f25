"""The result as JUnit XML, in the strictest dialect that is read (`junit-10.xsd` of Jenkins' xUnit plugin, as pytest's).

One suite a target, one case a check. A finding that breaks the gate is a failure, a check that could not tell an error, a
milder finding a passing case that carries its text. What is accepted or known is skipped with its reason, as an expected
failure is by pytest. That schema has no file on a case, so the text begins with it.
"""

from __future__ import annotations

import io
import re
from typing import Any

from nncheck.report.text import count, standing, where
from nncheck.verdict import CheckResult, Report, Status, TargetResult

MAX_PLACES = 20  # The result file has them all.

# XML 1.0 has no way to write these, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """The whole document."""
    from junitparser.xunit2 import JUnitXml

    document = JUnitXml("nncheck")
    for target in report.targets:
        document.append(_suite(target, report))
    document.update_statistics()
    for suite, target in zip(document, report.targets, strict=True):
        suite.time = round(target.seconds, 3)  # loading it is no case
    document.time = round(report.seconds, 3)  # targets run side by side: not the sum that the statistics hold
    written = io.BytesIO()
    document.write(written, pretty=True)
    return written.getvalue().decode("utf-8").rstrip() + "\n"


def _suite(target: TargetResult, report: Report) -> Any:
    from junitparser.xunit2 import TestSuite

    suite = TestSuite(_text(target.target))
    suite.timestamp = report.created.partition("+")[0]
    for result in target.checks:
        suite.append(_case(result, target, report))
    if target.problem is not None:
        suite.append(_named("target", target.target, 0.0, error=(target.problem.partition("\n")[0], target.problem)))
    said = [*report.notices, *([f"not run again: unchanged since {target.cached}"] if target.cached else [])]
    if report.baseline is not None:
        said += [f"against {report.baseline.file}, in all targets: {standing(report)}"]
        said += [f"resolved: {line}" for line in report.baseline.resolved]
    if said:
        suite.system_out = _text("\n".join(said))
    return suite


def _case(result: CheckResult, target: TargetResult, report: Report) -> Any:
    # GitLab drops cases of one name: the target tells the same check of two targets apart.
    name, text = f"{result.id} [{target.target}]", _full(result)
    told: dict[str, Any] = {}
    if result.status is Status.ERROR:
        told["error"] = (result.summary, text)
    elif result.status is Status.SKIP:
        told["skipped"] = result.verdict.why_skipped or "does not apply"
    elif result.accepted:
        told["skipped"] = f"accepted: {result.accepted}"
    elif result.is_finding and result.known:
        told["skipped"] = f"known, in the baseline: {result.summary}"
    elif report.breaks(result):
        told["failure"] = (result.summary, text)
    if not told or result.accepted or result.known:
        told["out"] = text
    return _named(str(result.stage), name, result.seconds, **told)


def _named(
    stage: str,
    name: str,
    seconds: float,
    *,
    failure: tuple[str, str] | None = None,
    error: tuple[str, str] | None = None,
    skipped: str | None = None,
    out: str | None = None,
) -> Any:
    from junitparser import Error, Failure, Skipped
    from junitparser.xunit2 import TestCase

    case = TestCase(_text(name), f"nncheck.{stage}", round(seconds, 3))
    for kind, told, type in ((Failure, failure, "finding"), (Error, error, "error")):
        if told is not None:
            entry = kind(_text(told[0]), type)
            entry.text = _text(told[1])  # GitLab reads the element's text, Jenkins its attribute
            case.append(entry)
    if skipped is not None:
        case.append(Skipped(_text(skipped)))
    if out is not None:
        case.system_out = _text(out)
    return case


def _full(result: CheckResult) -> str:
    verdict = result.verdict
    first = next((where(place) for place in verdict.places if place.file), "")
    lines = [f"{first}: {result.summary}" if first else result.summary, f"measured: {verdict.measured}"]
    if verdict.expected:
        lines.append(f"expected: {verdict.expected}")
    if verdict.near:
        lines.append(f"near: {verdict.near}")
    for place in verdict.places[:MAX_PLACES]:
        lines.append("at: " + " ".join(part for part in (where(place), place.name, place.detail) if part))
    if len(verdict.places) > MAX_PLACES:
        lines.append(f"at: {count(len(verdict.places) - MAX_PLACES, 'more place')} in the result file")
    lines += [f"perhaps: {cause}" for cause in verdict.causes]
    lines += [f"to do: {remedy.text}" for remedy in verdict.remedies]
    return "\n".join(lines)


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
