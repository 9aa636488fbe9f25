"""The result as JUnit XML, in the dialect that Jenkins, GitLab and Azure read (`junit-10.xsd`, xunit2).

One suite a target, one case a check. A finding at or above `--fail-on` is a failure, a check that could not tell an error, a
milder finding a passing case that carries its text.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from nncheck.verdict import CheckResult, Place, Report, Status, TargetResult

# XML 1.0 has no way to write these, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """The whole document."""
    suites = ElementTree.Element("testsuites")
    for target in report.targets:
        suites.append(_suite(target, report))
    for total in ("tests", "failures", "errors", "skipped"):
        # The schema allows no `skipped` on the root.
        if total != "skipped":
            suites.set(total, str(sum(int(suite.get(total, "0")) for suite in suites)))
    suites.set("name", "nncheck")
    suites.set("time", _seconds(report.seconds))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(target: TargetResult, report: Report) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_text(target.target), time=_seconds(target.seconds))
    if report.created:
        suite.set("timestamp", report.created.partition("+")[0])
    bad = {"fail": (Status.FAIL,), "warn": (Status.FAIL, Status.WARN), "never": ()}[report.fail_on]
    failures = errors = skips = 0
    cases = [_case(result, target, bad) for result in target.checks]
    if target.problem is not None:
        case = ElementTree.Element("testcase", classname="nncheck.target", name=_text(target.target), time="0.000")
        _add(case, "error", target.problem.partition("\n")[0], target.problem)
        cases.append(case)
    for case in cases:
        failures += case.find("failure") is not None
        errors += case.find("error") is not None
        skips += case.find("skipped") is not None
    for name, count in (("tests", len(cases)), ("failures", failures), ("errors", errors), ("skipped", skips)):
        suite.set(name, str(count))
    suite.extend(cases)
    return suite


def _case(result: CheckResult, target: TargetResult, bad: tuple[Status, ...]) -> ElementTree.Element:
    # GitLab drops cases of one name: the target tells the same check of two targets apart.
    case = ElementTree.Element(
        "testcase",
        classname=f"nncheck.{result.stage}",
        name=_text(f"{result.id} [{target.target}]"),
        time=_seconds(result.seconds),
    )
    place = next((p for p in result.verdict.places if p.file), None)
    if place is not None and place.file is not None:
        case.set("file", _text(place.file))
    if result.status in bad:
        _add(case, "failure", result.summary, _full(result), type=str(result.status))
    elif result.status is Status.ERROR:
        _add(case, "error", result.summary, _full(result))
    elif result.status is Status.SKIP:
        ElementTree.SubElement(case, "skipped", message=_text(result.verdict.why_skipped or "does not apply"))
    else:
        ElementTree.SubElement(case, "system-out").text = _text(_full(result))
    return case


def _full(result: CheckResult) -> str:
    verdict = result.verdict
    lines = [result.summary, f"measured: {verdict.measured}"]
    if verdict.expected:
        lines.append(f"expected: {verdict.expected}")
    lines += [f"at: {_place(place)}" for place in verdict.places]
    lines += [f"perhaps: {cause}" for cause in verdict.causes]
    lines += [f"to do: {remedy.text}" for remedy in verdict.remedies]
    return "\n".join(lines)


def _place(place: Place) -> str:
    where = f"{place.file}:{place.line}" if place.file and place.line else (place.file or "")
    return " ".join(part for part in (where, place.name, place.detail) if part)


def _add(case: ElementTree.Element, tag: str, message: str, text: str, *, type: str = "error") -> None:
    # GitLab reads the element's text, Jenkins its attribute.
    ElementTree.SubElement(case, tag, message=_text(message), type=type).text = _text(text)


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


__all__ = ["to_junit"]
