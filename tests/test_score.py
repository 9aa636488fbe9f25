"""The rules of the scoreboard, on outcomes made by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import corpus_runs  # a script's module: scripts are no package
import score
from corpus_runs import Job, Outcome

from nncheck import Recipe
from tests.corpus import Sound, Twin


def outcome(name: str, variant: str, findings: dict[str, str] | None = None, **more: object) -> Outcome:
    return Outcome(job=Job(name=name, variant=variant), findings=findings or {}, steps=100.0, seconds=2.0, **more)  # type: ignore[arg-type]


def made(fault: bool = False) -> Recipe:
    raise AssertionError("the rules need no set-up")


def a_twin(name: str, *expected: str, unseen: str = "") -> Twin:
    return Twin(name=name, domain="d", expected=expected, row="L01", make=made, unseen=unseen)


@pytest.mark.parametrize(
    ("faulty", "clean", "found", "failed", "first"),
    [
        ({"shuffle": "fail"}, {}, True, True, True),
        ({"shuffle": "warn"}, {}, True, False, True),
        ({"dead-relu": "fail", "shuffle": "fail"}, {}, True, True, False),
        ({"shuffle": "fail"}, {"shuffle": "warn"}, False, False, False),  # it speaks whether there is a fault or not
        ({"dead-relu": "fail"}, {}, False, False, False),
        ({"dead-relu": "fail", "shuffle": "fail"}, {"dead-relu": "fail"}, True, True, False),
        ({}, {}, False, False, False),
    ],
)
def test_a_find_is_a_right_check_on_the_faulty_twin_only(
    faulty: dict[str, str], clean: dict[str, str], found: bool, failed: bool, first: bool
) -> None:
    rated = score.rate_fault(("shuffle", "class-balance"), outcome("t", "faulty", faulty), outcome("t", "clean", clean))
    assert (rated["found"], rated["failed"], rated["first"]) == (found, failed, first)


def test_a_set_up_that_cannot_run_is_a_find_of_the_check_that_says_so() -> None:
    broken = outcome("t", "faulty", problem="IndexError in the forward pass")
    assert score.rate_fault(("forward-pass",), broken, outcome("t", "clean"))["first"]
    assert not score.rate_fault(("shuffle",), broken, outcome("t", "clean"))["found"]


@pytest.mark.parametrize("problem", ["no answer within 120 s", "the process died with exit code -9"])
def test_a_crash_of_the_tool_is_no_find(problem: str) -> None:
    broken = outcome("t", "faulty", problem=problem)
    assert not score.rate_fault(("forward-pass",), broken, outcome("t", "clean"))["found"]


def test_numbers_of_a_half() -> None:
    twins = [a_twin("a", "shuffle"), a_twin("b", "shuffle"), a_twin("c", "shuffle", unseen="nothing shows it")]
    sounds = [Sound(name="s", domain="d", make=made, look_alike="")]
    told = [
        outcome("a", "faulty", {"shuffle": "fail"}),
        outcome("a", "clean", {"dead-relu": "warn"}),
        outcome("b", "faulty", {"dead-relu": "fail"}),
        outcome("b", "clean"),
        outcome("c", "faulty"),
        outcome("c", "clean"),
        outcome("s", "sound", {"dead-relu": "fail", "shuffle": "warn"}, errors=("eval-mode",)),
    ]
    outcomes = {o.job: o for o in told}
    numbers = score.half(twins, sounds, outcomes)
    assert (numbers["faults"], numbers["found"], numbers["failed"], numbers["first"]) == (2, 1, 1, 1)
    assert (numbers["any"], numbers["any_fail"]) == (2, 2)
    assert (numbers["faults_nothing_can_see"], numbers["of_these_found"]) == (1, 0)
    assert (numbers["healthy"], numbers["false_fails"], numbers["false_warns"]) == (4, 1, 1)
    assert numbers["could_not_tell"] == 1
    rows = score.per_check(twins, sounds, outcomes)
    assert rows["shuffle"] == {"faults": 2, "found": 1, "first": 1, "itself": 1, "false_fails": 0, "false_warns": 1}
    assert rows["dead-relu"]["false_fails"] == rows["dead-relu"]["false_warns"] == 1
    assert [m["name"] for m in score.misses(twins, outcomes)] == ["b", "c"]
    assert [a["name"] for a in score.alarms(twins, sounds, outcomes)] == ["a", "s"]


def test_the_readme_shows_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- score:begin -->\nold\n<!-- score:end -->\nafter\n")
    monkeypatch.setattr(score, "README", readme)
    monkeypatch.setattr(score, "SCORE", tmp_path / "score.json")
    twins = [a_twin(f"t{i}", "shuffle") for i in range(8)]
    outcomes = {}
    for t in twins:
        for o in (outcome(t.name, "faulty", {"shuffle": "fail"}), outcome(t.name, "clean")):
            outcomes[o.job] = o
    score.keep(score.score(twins, [], outcomes))
    assert score.check() == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- score:end -->\nafter\n")
    assert "| faults found | 100%" in text
    tool = {"faults": 8, "hits": 2, "healthy": 8, "false_fails": 1, "steps_median": 88, "steps_max": 635}
    score.keep({"tools": {"another": tool}})
    assert "| another | 25% (2 of 8) | 12% (1 of 8) | 88 / 635 |" in readme.read_text()
    assert "| nncheck | 100% (8 of 8) | 0% (0 of 8) | 100 / 100 |" in readme.read_text()
    assert list(json.loads(score.SCORE.read_text())["tools"]) == ["nncheck", "another"]
    readme.write_text(readme.read_text().replace("100%", "99%"))
    assert score.check() == 1


def dies(make: object, job: Job) -> Outcome:
    """A judge that ends its process, hangs, fails or answers, by the name of the set-up."""
    import os
    import time

    if job.variant == "faulty":
        os._exit(3)
    if job.name.startswith("a"):
        time.sleep(60)
    raise ValueError("no idea")


def test_a_worker_that_dies_or_hangs_is_replaced() -> None:
    from tests.corpus import corpus

    first = next(t.name for t in corpus()[0] if t.name.startswith("a"))
    other = next(t.name for t in corpus()[0] if not t.name.startswith("a"))
    jobs = [Job(name=first, variant="clean"), Job(name=other, variant="clean"), Job(name=other, variant="faulty")]
    said = {o.job: o.problem for o in corpus_runs.run(jobs, "tests.test_score:dies", workers=1, limit=3)}
    assert said[jobs[0]] == "no answer within 3 s"
    assert said[jobs[1]] == "ValueError: no idea"
    assert said[jobs[2]] == "the process died with exit code 3"
