"""Every check has a case; on it, the whole catalogue is asked.

A check of the loop has scripts instead of set-ups, with a file of tests to itself: tests/capture/test_loop_NAME.py.

healthy(), fixed() and near misses: no check fails or warns. broken(): this check finds it.
`near_miss()` may return one Recipe or a dict of them by name.
"""

import importlib
import pkgutil

import pytest

import nncheck
import tests.capture
import tests.cases
from nncheck.registry import catalogue, slug_to_name
from nncheck.verdict import Report, Stage, Status

CASES = sorted(module.name for module in pkgutil.iter_modules(tests.cases.__path__))


def _check(recipe: nncheck.Recipe) -> Report:
    return nncheck.check(recipe, seed=0)


def _said(report: Report) -> str:
    lines = [f"findings: {report.targets[0].findings} problem: {report.targets[0].problem}"]
    for result in report.targets[0].checks:
        lines.append(f"  {result.id}: {result.status} {result.summary} | {result.verdict.measured}")
    return "\n".join(lines)


def _assert_quiet(report: Report) -> None:
    assert report.verdict == "pass", _said(report)
    assert report.targets[0].findings == (), _said(report)


def test_every_check_has_a_case_and_no_case_is_stray() -> None:
    assert sorted(slug_to_name(entry.id) for entry in catalogue() if entry.stage is not Stage.LOOP) == CASES


def test_every_check_of_the_loop_has_its_scripts() -> None:
    """Some that it finds, and some that look alike."""
    names = sorted(slug_to_name(entry.id) for entry in catalogue() if entry.stage is Stage.LOOP)
    found = [m.name.removeprefix("test_loop_") for m in pkgutil.iter_modules(tests.capture.__path__)]
    assert [name for name in names if name not in found] == []
    for name in names:
        module = importlib.import_module(f"tests.capture.test_loop_{name}")
        assert module.BROKEN, name
        assert module.NEAR, name


@pytest.mark.parametrize("name", CASES)
def test_healthy_is_quiet(name: str) -> None:
    _assert_quiet(_check(importlib.import_module(f"tests.cases.{name}").healthy()))


@pytest.mark.parametrize("name", CASES)
def test_broken_is_caught_by_this_check(name: str) -> None:
    report = _check(importlib.import_module(f"tests.cases.{name}").broken())
    result = report.targets[0].check(name.replace("_", "-"))
    assert result.status in (Status.FAIL, Status.WARN), _said(report)
    assert report.targets[0].findings[0] == result.id, _said(report)


@pytest.mark.parametrize("name", CASES)
def test_fixed_is_quiet(name: str) -> None:
    _assert_quiet(_check(importlib.import_module(f"tests.cases.{name}").fixed()))


@pytest.mark.parametrize("name", CASES)
def test_near_misses_are_quiet(name: str) -> None:
    near = importlib.import_module(f"tests.cases.{name}").near_miss()
    for recipe in near.values() if isinstance(near, dict) else [near]:
        _assert_quiet(_check(recipe))
