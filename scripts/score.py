"""How many planted faults are found, how many healthy set-ups accused: asks the whole catalogue about the corpus.

`score.py` asks about everything and keeps the numbers in tests/corpus/score.json and README.md; ended early, it goes on where
it was when asked again, as long as no source has changed. `score.py PATTERN` asks about the set-ups whose name or domain
contains it, and keeps nothing. `-v` names misses and false alarms of the half that rules are worked on with, `--held-out`
those of the other half too. `--check` asks nothing: exits 1 if README.md is not what score.json says.

A fault counts as found if one of the checks that name it rightly speaks on the faulty twin and is silent on the other.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from corpus_runs import ROOT, Job, Outcome, jobs_of, run_on

SCORE = ROOT / "tests" / "corpus" / "score.json"
README = ROOT / "README.md"
TABLE = re.compile(r"(<!-- score:begin -->\n).*?(<!-- score:end -->)", re.DOTALL)
HALVES = {"tuned": "worked on", "held_out": "held out"}
CANNOT_RUN = "forward-pass"
"""The check that stands for a set-up whose first step fails with a message: then no other one is asked."""


def nncheck_says(make: Any, job: Job) -> Outcome:
    """The whole catalogue over one set-up."""
    import nncheck

    begun = time.monotonic()
    try:
        report = nncheck.check(make())
    except nncheck.TargetError as error:
        return Outcome(job=job, problem=f"TargetError: {error}"[:300], seconds=time.monotonic() - begun)
    target = report.targets[0]
    statuses = {result.id: str(result.status) for result in target.checks}
    return Outcome(
        job=job,
        findings={id: statuses[id] for id in target.findings},
        words={r.id: f"{r.status}: {r.summary}"[:240] for r in target.checks},
        errors=tuple(id for id, status in statuses.items() if status == "error"),
        problem=(target.problem or "")[:300],
        steps=target.cost.train_steps,
        seconds=time.monotonic() - begun,
    )


def said(outcome: Outcome) -> dict[str, str]:
    """The findings; a set-up that cannot run at all is a finding of the check that says so."""
    if outcome.problem and not outcome.problem.startswith(("no answer", "the process died")):
        return {CANNOT_RUN: "fail", **outcome.findings}
    return outcome.findings


def rate_fault(expected: Sequence[str], faulty: Outcome, clean: Outcome) -> dict[str, bool]:
    """What is known of one fault: `failed` and `found` by a right check (fail; fail or warn), and `first` of all findings."""
    before, after = said(clean), said(faulty)
    right = [id for id in expected if id in after and id not in before]
    told = [id for id in after if id not in before]
    return {
        "found": bool(right),
        "failed": any(after[id] == "fail" for id in right),
        "first": bool(right) and next(iter(after)) in right,
        "any": bool(told),
        "any_fail": any(after[id] == "fail" for id in told),
    }


def half(twins: Iterable[Any], sounds: Iterable[Any], outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """The numbers of one half of the corpus."""
    faults, hidden, healthy = [], [], []
    for t in twins:
        faulty, clean = (outcomes[Job(name=t.name, variant=v)] for v in ("faulty", "clean"))
        (hidden if t.unseen else faults).append(rate_fault(t.expected, faulty, clean))
        healthy.append(clean)
    healthy += [outcomes[Job(name=s.name, variant="sound")] for s in sounds]
    return {
        "faults": len(faults),
        **{key: sum(f[key] for f in faults) for key in ("found", "failed", "first", "any", "any_fail")},
        "faults_nothing_can_see": len(hidden),
        "of_these_found": sum(f["found"] for f in hidden),
        "healthy": len(healthy),
        "false_fails": sum("fail" in said(o).values() for o in healthy),
        "false_warns": sum("fail" not in said(o).values() and "warn" in said(o).values() for o in healthy),
        "could_not_tell": sum(bool(o.errors or o.problem) for o in healthy),
    }


def per_check(
    twins: Sequence[Any], sounds: Sequence[Any], outcomes: Mapping[Job, Outcome]
) -> dict[str, dict[str, int]]:
    """By check: the faults it fits best, how many of these were found and found first, and its own false alarms."""
    rows: dict[str, dict[str, int]] = {}

    def add(id: str, key: str, count: int = 1) -> None:
        row = rows.setdefault(
            id, dict.fromkeys(("faults", "found", "first", "itself", "false_fails", "false_warns"), 0)
        )
        row[key] += count

    for t in twins:
        faulty, clean = (outcomes[Job(name=t.name, variant=v)] for v in ("faulty", "clean"))
        if not t.unseen:
            rated = rate_fault(t.expected, faulty, clean)
            add(t.expected[0], "faults")
            for key in ("found", "first"):
                add(t.expected[0], key, rated[key])
            add(t.expected[0], "itself", t.expected[0] in said(faulty) and t.expected[0] not in said(clean))
        _alarms(clean, add)
    for s in sounds:
        _alarms(outcomes[Job(name=s.name, variant="sound")], add)
    return dict(sorted(rows.items()))


def _alarms(outcome: Outcome, add: Any) -> None:
    for id, status in said(outcome).items():
        add(id, f"false_{status}s")


def misses(twins: Iterable[Any], outcomes: Mapping[Job, Outcome]) -> list[dict[str, Any]]:
    """Every fault not found, or not told first by a right check, with what the right checks said instead."""
    rows = []
    for t in twins:
        faulty, clean = (outcomes[Job(name=t.name, variant=v)] for v in ("faulty", "clean"))
        rated = rate_fault(t.expected, faulty, clean)
        if rated["found"] and rated["first"]:
            continue
        rows.append(
            {
                "name": t.name,
                "domain": t.domain,
                "row": t.row,
                "found": rated["found"],
                "unseen": t.unseen,
                "said": list(said(faulty)),
                "why": {id: faulty.words.get(id, faulty.problem or "not asked") for id in t.expected},
            }
        )
    return rows


def alarms(twins: Iterable[Any], sounds: Iterable[Any], outcomes: Mapping[Job, Outcome]) -> list[dict[str, Any]]:
    """Every healthy set-up that is accused, or that could not be judged."""
    healthy = [(t, Job(name=t.name, variant="clean")) for t in twins]
    healthy += [(s, Job(name=s.name, variant="sound")) for s in sounds]
    rows = []
    for s, job in healthy:
        outcome = outcomes[job]
        if not (said(outcome) or outcome.errors or outcome.problem):
            continue
        words = {id: outcome.words.get(id, outcome.problem) for id in (*said(outcome), *outcome.errors)}
        rows.append({"name": s.name, "domain": s.domain, "says": words or {"": outcome.problem}})
    return rows


def score(twins: Sequence[Any], sounds: Sequence[Any], outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """Everything that is kept: numbers of both halves, names of one only."""
    import torch

    import nncheck
    from tests.corpus import tuned

    parts = {
        "tuned": ([t for t in twins if tuned(t.name)], [s for s in sounds if tuned(s.name)]),
        "held_out": ([t for t in twins if not tuned(t.name)], [s for s in sounds if not tuned(s.name)]),
    }
    ran = [o for o in outcomes.values() if not o.problem]
    return {
        "nncheck": nncheck.__version__,
        "torch": torch.__version__.partition("+")[0],
        "halves": {name: half(*part, outcomes) for name, part in parts.items()},
        "cost": {
            "steps_median": round(statistics.median(o.steps for o in ran), 1) if ran else 0,
            "steps_max": round(max((o.steps for o in ran), default=0), 1),
            "seconds_median": round(statistics.median(o.seconds for o in ran), 1) if ran else 0,
            "seconds_max": round(max((o.seconds for o in ran), default=0), 1),
        },
        "checks": {name: per_check(*part, outcomes) for name, part in parts.items()},
        "misses": misses(parts["tuned"][0], outcomes),
        "false_alarms": alarms(*parts["tuned"], outcomes),
    }


def share(count: int, of: int) -> str:
    return f"{count / of:.0%} ({count} of {of})" if of else "-"


def table(kept: Mapping[str, Any]) -> str:
    """The README's table."""
    halves = [kept["halves"][name] for name in HALVES]
    rows = [
        ("faults found", [share(h["found"], h["faults"]) for h in halves]),
        ("... by a *fail*", [share(h["failed"], h["faults"]) for h in halves]),
        ("... with the right check as first finding", [share(h["first"], h["faults"]) for h in halves]),
        ("healthy set-ups failed", [share(h["false_fails"], h["healthy"]) for h in halves]),
        ("healthy set-ups warned", [share(h["false_warns"], h["healthy"]) for h in halves]),
    ]
    lines = ["| | " + " | ".join(f"half {words}" for words in HALVES.values()) + " |", "|---|---|---|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    cost = kept["cost"]
    lines += [
        "",
        f"Cost of a run: {cost['steps_median']:.0f} training steps in the median, {cost['steps_max']:.0f} at most.",
    ]
    if in_scripts := kept.get("scripts"):
        lines += ["", *script_lines([in_scripts[name] for name in HALVES])]
    if tools := kept.get("tools"):
        lines += [
            "",
            "| on all of it | faults told by a *fail* | healthy set-ups failed | training steps, median / most |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {share(t['hits'], t['faults'])} | {share(t['false_fails'], t['healthy'])}"
            f" | {t['steps_median']:.0f} / {t['steps_max']:.0f} |"
            for name, t in tools.items()
        ]
    return "\n".join(lines) + "\n"


def script_lines(halves: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same for unmodified training scripts."""
    rows = [
        ("first batch's loss had again to the last bit", [share(h["exact"], h["scripts"]) for h in halves]),
        ("faults of the loop, the data and the model found", [share(h["found"], h["faults"]) for h in halves]),
        ("... with the right check as first finding", [share(h["first"], h["faults"]) for h in halves]),
        ("healthy scripts failed", [share(h["false_fails"], h["scripts"]) for h in halves]),
        ("healthy scripts warned", [share(h["false_warns"], h["scripts"]) for h in halves]),
    ]
    head = "| unmodified scripts (`nncheck run train.py -- ARGS`) | "
    lines = [head + " | ".join(f"half {words}" for words in HALVES.values()) + " |", "|---|---|---|"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]


def readme(kept: Mapping[str, Any]) -> str:
    """README.md with the table between its two marks."""
    return TABLE.sub(lambda found: found[1] + table(kept) + found[2], README.read_text(encoding="utf-8"))


def ours(kept: Mapping[str, Any]) -> dict[str, Any]:
    """nncheck's row beside other tools, by their rule: any check that fails on the faulty twin only."""
    halves = kept["halves"].values()
    sums = {
        key: sum(h[key] for h in halves) for key in ("faults", "any_fail", "healthy", "false_fails", "could_not_tell")
    }
    return {
        "faults": sums["faults"],
        "hits": sums["any_fail"],
        "healthy": sums["healthy"],
        "false_fails": sums["false_fails"],
        "could_not_run": sums["could_not_tell"],
        "steps_median": kept["cost"]["steps_median"],
        "steps_max": kept["cost"]["steps_max"],
    }


def keep(new: Mapping[str, Any]) -> None:
    """Write score.json and the README's table; what is not measured anew stays, tools by name."""
    before = json.loads(SCORE.read_text(encoding="utf-8")) if SCORE.exists() else {}
    kept = {**before, **new}
    tools = {**before.get("tools", {}), **new.get("tools", {})}
    tools.pop("nncheck", None)
    if tools:
        kept["tools"] = {"nncheck": ours(kept), **tools} if "halves" in kept else tools
    SCORE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if "halves" in kept:
        README.write_text(readme(kept), encoding="utf-8")


def show(kept: Mapping[str, Any], *, verbose: bool, twins: Sequence[Any], sounds: Sequence[Any]) -> None:
    """The score for a terminal."""
    for name, words in HALVES.items():
        h, checks = kept["halves"][name], kept["checks"][name]
        print(f"\nhalf {words}: {h['faults']} faults, {h['healthy']} healthy set-ups")
        print(f"  found {share(h['found'], h['faults'])}, by a fail {share(h['failed'], h['faults'])}, ", end="")
        print(f"right check first {share(h['first'], h['faults'])}")
        print(
            f"  false fails {h['false_fails']}, false warns {h['false_warns']}, could not tell {h['could_not_tell']}",
            end="",
        )
        print(f"; {h['of_these_found']} of {h['faults_nothing_can_see']} faults found that nothing is expected to see")
        print(f"  {'check':24}{'faults':>7}{'found':>7}{'itself':>7}{'first':>7}{'f.fail':>7}{'f.warn':>7}")
        for id, c in checks.items():
            columns = ("faults", "found", "itself", "first", "false_fails", "false_warns")
            print(f"  {id:24}" + "".join(f"{c[key]:7d}" for key in columns))
    cost = kept["cost"]
    print(f"\ncost: {cost['steps_median']} training steps in the median, {cost['steps_max']} at most; ", end="")
    print(f"{cost['seconds_median']} s in the median, {cost['seconds_max']} s at most")
    if verbose:
        show_names(kept["misses"], kept["false_alarms"])


def show_names(missed: Iterable[Mapping[str, Any]], accused: Iterable[Mapping[str, Any]]) -> None:
    """Misses and false alarms one by one."""
    for m in missed:
        head = "unseen" if m["unseen"] and not m["found"] else "late" if m["found"] else "MISS"
        print(f"\n{head} {m['domain']}.{m['name']} ({m['row']}): says {', '.join(m['said']) or 'nothing'}")
        for id, why in m["why"].items():
            print(f"    {id} - {why}")
    for a in accused:
        print(f"\nALARM {a['domain']}.{a['name']}")
        for id, words in a["says"].items():
            print(f"    {id} - {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="part of a set-up's name or domain, or a row")
    parser.add_argument("-v", "--verbose", action="store_true", help="names of the half that rules are worked on with")
    parser.add_argument("--held-out", action="store_true", help="names of the other half too")
    parser.add_argument("--check", action="store_true", help="only compare README.md with score.json")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one set-up")
    options = parser.parse_args()
    if options.check:
        return check()
    from tests.corpus import corpus, tuned

    twins, sounds = corpus()
    word = options.pattern
    twins = tuple(t for t in twins if word in f"{t.domain}.{t.name}" or word == t.row)
    sounds = tuple(s for s in sounds if word in f"{s.domain}.{s.name}")
    jobs = jobs_of(twins, sounds)
    outcomes: dict[Job, Outcome] = {}
    begun = time.monotonic()
    for outcome in run_on(jobs, "score:nncheck_says", workers=options.workers, limit=options.limit):
        outcomes[outcome.job] = outcome
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {len(jobs)}", end="", file=sys.stderr)
    kept = score(twins, sounds, outcomes)
    show(kept, verbose=options.verbose, twins=twins, sounds=sounds)
    if options.held_out:
        show_names(
            misses([t for t in twins if not tuned(t.name)], outcomes),
            alarms([t for t in twins if not tuned(t.name)], [s for s in sounds if not tuned(s.name)], outcomes),
        )
    print(f"\n{len(jobs)} set-ups in {time.monotonic() - begun:.0f} s")
    if not word:
        keep(kept)
    return 0


def check() -> int:
    """0 if the README's table is what score.json says."""
    kept = json.loads(SCORE.read_text(encoding="utf-8")) if SCORE.exists() else {}
    if "halves" in kept and readme(kept) != README.read_text(encoding="utf-8"):
        print("the score in README.md is out of date: run `make score`")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
