"""A project's rules on findings: levels, what is accepted where and until when, and what is said of entries."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from nncheck.config import Accept, Config
from nncheck.gate.rules import Rules, notices
from nncheck.registry import order_findings
from nncheck.report.json import from_json, to_json
from nncheck.verdict import (
    CheckResult,
    Cost,
    Doc,
    Place,
    Report,
    Stage,
    Status,
    TargetResult,
    Verdict,
    errored,
    failed,
    passed,
    skipped,
    warned,
)

TODAY = datetime.date(2026, 11, 21)
ROOT = Path("/repo")
DOC = Doc(title="t.", what="w", why="y", fix="f", limits="l", source="s")

RELUS = (
    Place(name="encoder.layer1.relu", file="models/a.py", line=10),
    Place(name="encoder.layer2.relu", file="models/a.py", line=11),
    Place(name="head.relu", file="models/parts/head.py", line=3),
)


def result(id: str, verdict: Verdict) -> CheckResult:
    return CheckResult(id=id, stage=Stage.INIT, verdict=verdict, seconds=0.1, doc=DOC)


def dead(*places: Place, verdict=failed) -> CheckResult:  # type: ignore[no-untyped-def]
    return result("dead-relu", verdict("412 of 512", expected="none", places=places))


def target(*checks: CheckResult, name: str = "models/a.py") -> TargetResult:
    return TargetResult(
        target=name, model="Net", parameters=1, loss="L", optimizer="O", bound=(), notes=(), checks=checks,
        findings=order_findings({check.id: check for check in checks}), seconds=1.0, cost=Cost(),
    )  # fmt: skip


def rules(*accept: Accept, of: str = "models/a.py", **config) -> Rules:  # type: ignore[no-untyped-def]
    config.setdefault("path", ROOT / "nncheck.toml")
    return Rules(config=Config(accept=accept, **config), target=of, folder=ROOT, today=TODAY)


def entry(place: str = "", **more) -> Accept:  # type: ignore[no-untyped-def]
    return Accept(**{"check": "dead-relu", "reason": "sparse", "place": place, "source": "nncheck.toml:12"} | more)


def report(*targets: TargetResult) -> Report:
    return Report(nncheck_version="0", created="", environment={}, targets=targets, seconds=1.0)


def test_a_level_promotes_and_demotes_findings_and_keeps_what_the_check_said() -> None:
    under = rules(level={"dead-relu": "warn", "shuffle": "fail"})
    mild, grave = under.on_check(dead()), under.on_check(result("shuffle", warned("m", expected="e")))
    assert (mild.status, mild.declared) == (Status.WARN, Status.FAIL)
    assert (grave.status, grave.declared) == (Status.FAIL, Status.WARN)
    assert report(target(mild)).exit_code == 0
    assert report(target(grave)).exit_code == 1


@pytest.mark.parametrize("verdict", [passed("m"), skipped("w"), errored("c")])
def test_a_level_leaves_alone_what_is_no_finding(verdict: Verdict) -> None:
    for level in ("fail", "warn"):
        given = result("dead-relu", verdict)
        assert rules(level={"dead-relu": level}).on_check(given) == given


def test_a_level_that_says_the_same_changes_nothing() -> None:
    assert rules(level={"dead-relu": "fail"}).on_check(dead()).declared is None


def test_an_accepted_finding_keeps_its_status_and_counts_no_more() -> None:
    under = rules(entry(until=datetime.date(2027, 1, 31))).on_target(
        target(dead(*RELUS), result("shuffle", passed("m")))
    )
    accepted = under.check("dead-relu")
    assert (accepted.status, accepted.accepted) == (Status.FAIL, "sparse (until 2027-01-31)")
    assert not accepted.is_finding
    assert (under.findings, under.verdict, report(under).exit_code) == ((), "pass", 0)


def test_findings_are_ordered_anew() -> None:
    grave = result("shuffle", warned("m", expected="e"))
    under = rules(entry(check="loss-at-init"), level={"shuffle": "fail", "dead-relu": "warn"})
    found = under.on_target(target(dead(), result("loss-at-init", failed("m", expected="e")), grave)).findings
    assert found == ("shuffle", "dead-relu")


def test_levels_come_before_acceptance() -> None:
    under = rules(entry(), level={"dead-relu": "warn"}).on_check(dead())
    assert (under.status, under.declared, under.accepted) == (Status.WARN, Status.FAIL, "sparse")


@pytest.mark.parametrize("verdict", [passed("m"), skipped("w"), errored("c", places=RELUS)])
def test_only_findings_are_accepted_never_what_could_not_tell(verdict: Verdict) -> None:
    given = result("dead-relu", verdict)
    assert rules(entry(), entry("*")).on_check(given) == given
    assert report(rules(entry()).on_target(target(result("dead-relu", errored("c"))))).exit_code == 2


@pytest.mark.parametrize(
    ("place", "left"),
    [
        ("encoder.layer1.relu", ["encoder.layer2.relu", "head.relu"]),
        ("encoder.*", ["head.relu"]),
        ("*.relu", []),
        ("models/a.py", ["head.relu"]),
        ("models/**/*.py", []),
        ("models", []),
        ("Encoder.*", ["encoder.layer1.relu", "encoder.layer2.relu", "head.relu"]),
        ("encoder", ["encoder.layer1.relu", "encoder.layer2.relu", "head.relu"]),
    ],
)
def test_a_place_is_a_name_or_a_file(place: str, left: list[str]) -> None:
    under = rules(entry(place)).on_check(dead(*RELUS))
    if not left:
        assert under.accepted == "sparse"
        assert under.verdict.places == RELUS
        return
    assert under.accepted == ""
    assert under.is_finding
    assert [p.name for p in under.verdict.places] == left
    assert {p.name for p in under.accepted_places} == {p.name for p in RELUS} - set(left)
    assert all(p.detail == "sparse" for p in under.accepted_places)


def test_several_entries_together_accept_the_whole() -> None:
    under = rules(entry("encoder.*"), entry("head.*", reason="frozen")).on_check(dead(*RELUS))
    assert under.accepted == "sparse; frozen"
    assert under.accepted_places == ()


def test_files_are_seen_from_the_configuration_s_folder(tmp_path: Path) -> None:
    inner = tmp_path / "src"
    inner.mkdir()
    place = Place(name="relu", file="../models/a.py", line=1)
    config = Config(path=tmp_path / "nncheck.toml", accept=(entry("models/a.py"),))
    assert Rules(config=config, target="x.py", folder=inner, today=TODAY).on_check(dead(place)).accepted
    absolute = dataclasses.replace(place, file=str(tmp_path / "models" / "a.py"))
    assert Rules(config=config, target="x.py", folder=inner, today=TODAY).on_check(dead(absolute)).accepted


def test_a_finding_without_places_is_accepted_as_a_whole_or_not_at_all() -> None:
    assert rules(entry()).on_check(dead()).accepted
    assert not rules(entry("*")).on_check(dead()).accepted


@pytest.mark.parametrize(
    ("pattern", "typed", "meant"),
    [
        ("models/a.py", "models/a.py", True),
        ("models/*.py", "models/a.py", True),
        ("models/*.py", "models/a.py:build", True),
        ("models/a.py:build", "models/a.py:build", True),
        ("models/a.py:other", "models/a.py:build", False),
        ("models/b.py", "models/a.py", False),
        ("*.py", "models/a.py", False),
        ("**/*.py", "./models/../models/a.py", True),
        ("package.module:build", "package.module:build", True),
        ("package.module", "package.other", False),
    ],
)
def test_an_entry_may_be_meant_for_some_targets(pattern: str, typed: str, meant: bool) -> None:
    assert bool(rules(entry(target=pattern), of=typed).on_check(dead()).accepted) is meant


@pytest.mark.parametrize(("day", "holds"), [(22, True), (21, True), (20, False)])
def test_the_last_day_still_counts(day: int, holds: bool) -> None:
    under = rules(entry(until=datetime.date(2026, 11, day)))
    assert bool(under.on_check(dead()).accepted) is holds
    told = notices([(under, [target(dead())])])
    assert told == (() if holds else (f"nncheck.toml:12: the acceptance of dead-relu ran out on 2026-11-{day}",))


def test_an_entry_that_has_run_out_takes_no_place_away() -> None:
    under = rules(entry("encoder.*", until=datetime.date(2026, 1, 1))).on_check(dead(*RELUS))
    assert under.verdict.places == RELUS


def said(*accept: Accept, results: tuple[CheckResult, ...], of: str = "models/a.py", **config) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    return notices([(rules(*accept, of=of, **config), [target(*results)])])


def test_an_entry_that_matches_nothing_any_more_is_reported() -> None:
    fine = (result("dead-relu", passed("m")),)
    assert said(entry(target="models/a.py"), results=fine) == (
        "nncheck.toml:12: the acceptance of dead-relu in models/a.py matches nothing any more: dead-relu passed",
    )
    (line,) = said(entry(), results=fine)
    assert line.endswith("dead-relu passed; if it is meant for another target, name that: target = ...")
    (line,) = said(entry("decoder.*", target="models/a.py"), results=(dead(*RELUS),))
    assert "dead-relu at decoder.* in models/a.py matches nothing any more: dead-relu found something in other" in line


def test_an_entry_that_is_used_or_could_not_be_told_is_not() -> None:
    assert said(entry(), results=(dead(*RELUS),)) == ()
    assert said(entry("encoder.*"), results=(dead(*RELUS),)) == ()
    assert said(entry(), results=(dead(verdict=warned),)) == ()
    for verdict in (skipped("needs another"), errored("c")):
        assert said(entry(), results=(result("dead-relu", verdict),)) == ()


def test_an_entry_whose_check_or_target_was_not_asked_is_not() -> None:
    assert said(entry(), results=(result("shuffle", passed("m")),)) == ()
    assert said(entry(target="models/b.py"), results=(dead(),), path=None) == ()
    assert said(entry(), results=()) == ()


def test_two_entries_for_the_same_finding_are_both_used() -> None:
    assert said(entry(), entry("encoder.*", source="nncheck.toml:20"), results=(dead(*RELUS),)) == ()


def project(folder: Path) -> Config:
    (folder / "models").mkdir()
    for name in ("a", "b"):
        (folder / "models" / f"{name}.py").touch()
    return Config(path=folder / "nncheck.toml", targets=("models/*.py",), accept=(entry(),))


def test_an_entry_without_a_target_is_judged_where_all_listed_targets_were_run(tmp_path: Path) -> None:
    config = project(tmp_path)
    runs = [
        (Rules(config=config, target=f"models/{name}.py", folder=tmp_path, today=TODAY), [target(check)])
        for name, check in (("a", result("dead-relu", passed("m"))), ("b", result("dead-relu", passed("m"))))
    ]
    assert notices(runs[:1]) == ()
    (line,) = notices(runs)
    assert line.endswith("matches nothing any more: dead-relu passed")
    used = [(runs[1][0], [target(dead())])]
    assert notices([runs[0], *used]) == ()


def test_an_entry_whose_file_is_gone_is_reported(tmp_path: Path) -> None:
    config = dataclasses.replace(project(tmp_path), accept=(entry(target="models/z.py"), entry(target="models/b.py")))
    under = Rules(config=config, target="models/a.py", folder=tmp_path, today=TODAY)
    assert notices([(under, [target(dead())])]) == (
        "nncheck.toml:12: the acceptance of dead-relu in models/z.py matches nothing any more: there is no such file",
    )


def test_each_entry_is_told_once_for_a_script_with_several_optimizers() -> None:
    under = rules(entry(target="models/a.py"))
    both = [target(result("dead-relu", passed("m"))), target(dead())]
    assert notices([(under, both)]) == ()
    assert len(notices([(under, both[:1] * 2)])) == 1


def test_no_configuration_changes_nothing() -> None:
    given = target(dead(*RELUS))
    assert Rules(config=Config()).on_target(given) is given
    assert notices([(Rules(config=Config()), [given])]) == ()


def test_a_result_keeps_it_all_when_it_is_saved() -> None:
    under = rules(entry("encoder.*"), level={"dead-relu": "warn"}).on_target(target(dead(*RELUS)))
    saved = dataclasses.replace(report(under), notices=("nncheck.toml:3: said",))
    assert from_json(to_json(saved)) == saved
