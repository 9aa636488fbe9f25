"""The catalogue is read, not imported; selection, documentation and the order of findings."""

import subprocess
import sys

import pytest

from nncheck.errors import UsageError
from nncheck.registry import catalogue, load, needs_of, order_findings, parse_doc, probe, select
from nncheck.verdict import CheckResult, Doc, Stage, Status, Verdict

DOC = Doc(title="", what="", why="", fix="", limits="", source="")


def _results(**statuses: Status) -> dict[str, CheckResult]:
    stages = {entry.id: entry.stage for entry in catalogue()}
    return {
        id: CheckResult(id=id, stage=stages[id], verdict=Verdict(status=status), seconds=0.0, doc=DOC)
        for id, status in ((name.replace("_", "-"), status) for name, status in statuses.items())
    }


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys, nncheck.registry as r; assert r.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_catalogue_and_the_imported_checks_agree() -> None:
    assert [check.entry.id for check in load()] == [entry.id for entry in catalogue()]
    assert [entry.stage for entry in catalogue()] == sorted(
        (entry.stage for entry in catalogue()), key=list(Stage).index
    )


def test_causes_are_asked_before_their_consequences() -> None:
    position = {entry.id: number for number, entry in enumerate(catalogue())}
    for entry in catalogue():
        for cause in entry.after:
            assert position[cause] < position[entry.id]


def test_selection_by_id_and_by_stage() -> None:
    everything = select((), ())
    assert everything == {entry.id for entry in catalogue()}
    setup = select(("setup",), ())
    assert setup == {entry.id for entry in catalogue() if entry.stage is Stage.SETUP}
    assert select(("setup",), ("forward-pass",)) == setup - {"forward-pass"}
    assert select((), ("init",)).isdisjoint(e.id for e in catalogue() if e.stage is Stage.INIT)
    assert select(("data",), ()) == frozenset(e.id for e in catalogue() if e.stage is Stage.DATA)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'forward-pass'"):
        select(("forwad-pass",), ())
    with pytest.raises(UsageError, match="nncheck list"):
        select((), ("zzz",))


def test_a_selection_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no check is left to run"):
        select(("setup",), ("setup",))


def test_a_docstring_without_a_heading_is_refused() -> None:
    with pytest.raises(ValueError, match="Why it matters"):
        parse_doc("Title.\n\nWhat it does\n    This.\nHow to fix\n    That.\n")


def test_two_probes_of_one_kind_are_refused() -> None:
    check = load()[0]
    kind = check.needs[0]

    def rival(sandbox: object) -> object:
        return sandbox

    rival.__annotations__ = {"return": kind}
    with pytest.raises(TypeError, match="has a probe already"):
        probe(rival)
    assert needs_of(check.function) == check.needs


def test_the_root_is_listed_before_its_consequences() -> None:
    pairs = [(e.id, cause) for e in catalogue() for cause in e.consequence_of if cause in select((), ())]
    assert pairs
    for consequence, cause in pairs:
        found = order_findings(
            _results(**{consequence.replace("-", "_"): Status.FAIL, cause.replace("-", "_"): Status.WARN})
        )
        assert found == (cause, consequence)


def test_unrelated_findings_are_listed_by_severity_then_as_asked() -> None:
    first = next(entry.id for entry in catalogue() if entry.stage is Stage.SETUP)
    free = [e.id for e in catalogue() if first not in e.consequence_of and e.id != first and not e.consequence_of]
    if not free:
        pytest.fail("no check without causes to compare with")
    other = free[0]
    warned, failed = first.replace("-", "_"), other.replace("-", "_")
    assert order_findings(_results(**{warned: Status.WARN, failed: Status.FAIL})) == (other, first)
    assert order_findings(_results(**{warned: Status.PASS, failed: Status.SKIP})) == ()
