"""JUnit XML: what Jenkins' schema allows, and what its readers make of it."""

import re
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml as Reader

from nncheck.report.junit import to_junit
from nncheck.verdict import Report
from tests.report import golden
from tests.report.marked import marked

# What junit-10.xsd of Jenkins' xUnit plugin allows in each element; every attribute it demands is marked.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name!", "tests!", "failures!", "errors!", "time", "skipped", "timestamp", "hostname", "id", "file"},
    "testcase": {"name!", "time", "classname", "group"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase", "system-out"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")

REPORTS = {
    "one": golden.report(),
    "several": golden.report(golden.target(), golden.healthy(), golden.unusable()),
    "nothing": golden.report(golden.healthy()),
    "marked": marked(),
}


def _allowed(element: ElementTree.Element) -> None:
    attributes = ATTRIBUTES[element.tag]
    assert set(element.keys()) <= {name.rstrip("!") for name in attributes}
    assert {name.rstrip("!") for name in attributes if name.endswith("!")} <= set(element.keys())
    if element.get("time") is not None:
        assert TIME.fullmatch(element.get("time", "")), element.attrib
    for child in element:
        assert child.tag in CHILDREN.get(element.tag, set()), (element.tag, child.tag)
        _allowed(child)


@pytest.mark.parametrize("name", REPORTS)
def test_it_is_what_the_schema_allows(name: str) -> None:
    root = ElementTree.fromstring(to_junit(REPORTS[name]).encode())
    assert root.tag == "testsuites"
    _allowed(root)


@pytest.mark.parametrize("name", REPORTS)
def test_the_counts_are_those_of_the_cases(name: str) -> None:
    for suite in ElementTree.fromstring(to_junit(REPORTS[name]).encode()):
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(count) == str(sum(case.find(tag) is not None for case in cases)), count
        names = [(case.get("classname"), case.get("name")) for case in cases]
        assert len(set(names)) == len(names), "GitLab drops cases of one name"


def _cases(report: Report) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(to_junit(report).encode())
    return {str(case.get("name")).partition(" ")[0]: case for suite in root for case in suite.iter("testcase")}


def test_each_status_has_its_element() -> None:
    cases = _cases(golden.report())
    failure = cases["loss-at-init"].find("failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("loss starts at 4.87")
    assert str(failure.text).startswith("model.py:41: loss starts at 4.87")
    assert cases["loss-at-init"].get("classname") == "nncheck.init"
    error = cases["gradient-check"].find("error")
    assert error is not None
    assert "RuntimeError" in str(error.text)
    skipped = cases["saturation"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "the model has no tanh, sigmoid, softmax or attention"
    # A warning does not break a gate that fails on failures: it passes and carries its text.
    assert [child.tag for child in cases["output-bias-init"]] == ["system-out"]
    assert "a bias of log-odds" in str(cases["output-bias-init"].findtext("system-out"))


def test_what_somebody_has_seen_is_skipped_with_its_reason() -> None:
    cases = _cases(marked())
    reasons = {id: case.find("skipped") for id, case in cases.items() if case.find("skipped") is not None}
    assert reasons["dead-relu"].get("message") == "accepted: sparse on purpose, see paper 3.2"
    assert str(reasons["batch-mixing"].get("message")).startswith("known, in the baseline: 58 of 240")
    assert cases["loss-at-init"].find("failure") is not None


def test_a_target_that_could_not_be_checked_is_an_error() -> None:
    case = _cases(golden.report(golden.unusable()))["broken.py"]
    error = case.find("error")
    assert error is not None
    assert error.get("message") == "broken.py stopped with an error of its own"
    assert "broken.py:88" in str(error.text)


def test_a_reader_of_the_format_reads_it(tmp_path) -> None:
    path = tmp_path / "r.xml"
    path.write_text(to_junit(REPORTS["several"]), encoding="utf-8")
    suites = list(Reader.fromfile(str(path)))
    assert [suite.name for suite in suites] == ["examples/digits_cnn.py", "examples/healthy.py", "broken.py"]
    assert suites[0].failures == sum(case.is_failure for case in suites[0]) == 3


def test_what_xml_cannot_hold_is_left_out_and_said_in_a_sign() -> None:
    text = to_junit(golden.report())
    assert "\x1b" not in text
    assert "\ufffd[31mred" in text
