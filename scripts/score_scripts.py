"""How many faults planted in training scripts are found by `nncheck run SCRIPT -- ARGS`, and how many healthy scripts accused.

`score_scripts.py` runs every script of tests/scripts, as it stands and with each of its faults, and keeps the numbers in
tests/corpus/score.json and README.md; ended early, it goes on where it was, as long as no source has changed.
`score_scripts.py PATTERN` runs those whose name contains it, and keeps nothing. `-v` names what was missed in the half that rules
are worked on with, `--held-out` in the other half too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corpus_runs import NOTES, ROOT, Job, Outcome, sources
from score import keep, rate_fault, said, share

sys.path.insert(0, str(ROOT))

from tests.corpus import tuned
from tests.scripts import FILES, Fault, ScriptCase, scripts

HALVES = {"tuned": "worked on", "held_out": "held out"}
LIMIT = 240.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a script: the findings, and how far the loss of its first batch could be had again: "exact", "close" or ""."""

    outcome: Outcome
    again: str


def run_script(case: ScriptCase, fault: Fault | None) -> Run:
    """`nncheck run` on a copy of the script in a folder of its own."""
    name = case.path.name
    job = Job(
        name=case.name if fault is None else f"{case.name}/{fault.name}", variant="clean" if fault is None else "faulty"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text = case.path.read_text(encoding="utf-8")
        (folder / name).write_text(text if fault is None else fault.planted(text), encoding="utf-8")
        for beside in case.beside:
            source = FILES / beside
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / beside)
        command = [sys.executable, "-m", "nncheck", "run", name, "--no-report", "--json", "result.json"]
        begun = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*command, "--budget", str(LIMIT - 30), "--", *case.arguments],
                cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, timeout=LIMIT, check=False,
            )  # fmt: skip
        seconds = time.monotonic() - begun
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return Run(outcome=Outcome(job=job, problem="no answer", seconds=seconds), again="")
    return Run(outcome=_outcome(job, result, seconds), again=_again(result))


def _outcome(job: Job, result: dict[str, Any], seconds: float) -> Outcome:
    """The findings of all its targets in order; a script with several optimizers has one for each."""
    findings: dict[str, str] = {}
    words: dict[str, str] = {}
    errors: list[str] = []
    for target in result["targets"]:
        checks = {check["id"]: check for check in target["checks"]}
        for id in target["findings"]:
            findings.setdefault(id, checks[id]["status"])
        for id, check in checks.items():
            if id not in words or check["status"] in ("fail", "warn"):
                words[id] = f"{check['status']}: {check['summary']} {check['measured']}"[:240]
            if check["status"] == "error":
                errors.append(id)
    problem = next((target["problem"] for target in result["targets"] if target.get("problem")), "")
    steps = float(result["cost"]["train_steps"])
    return Outcome(
        job=job,
        findings=findings,
        words=words,
        errors=tuple(errors),
        problem=problem[:300],
        steps=steps,
        seconds=seconds,
    )


def _again(result: dict[str, Any]) -> str:
    notes = " ".join(note for target in result["targets"] for note in target.get("notes", ()))
    if "to the last bit" in notes:
        return "exact"
    return "close" if "gives the first loss again" in notes else ""


def runs(jobs: Sequence[tuple[ScriptCase, Fault | None]], workers: int) -> Iterator[Run]:
    """Every run as it comes; those that are known for these very sources first."""
    digest = hashlib.sha256(sources(("nncheck",)).encode())
    for path in sorted((ROOT / "tests" / "scripts").rglob("*")):
        digest.update(path.read_bytes() if path.is_file() and "__pycache__" not in path.parts else b"")
    notes = NOTES / f"scripts-{digest.hexdigest()[:16]}.pickle"
    known: dict[str, Run] = {}
    with contextlib.suppress(FileNotFoundError, EOFError, pickle.UnpicklingError), notes.open("rb") as file:
        while True:
            run = pickle.load(file)
            known[run.outcome.job.name] = run
    notes.parent.mkdir(parents=True, exist_ok=True)
    named = {case.name if fault is None else f"{case.name}/{fault.name}": (case, fault) for case, fault in jobs}
    yield from (known[name] for name in named if name in known)
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run_script, *job) for name, job in named.items() if name not in known]):
            with notes.open("ab") as file:
                pickle.dump(future.result(), file)
            yield future.result()


def rate(cases: Sequence[ScriptCase], known: dict[str, Run]) -> dict[str, Any]:
    """The numbers of one half."""
    healthy = [known[case.name].outcome for case in cases]
    rated = [
        (fault, rate_fault(fault.expected, known[f"{case.name}/{fault.name}"].outcome, known[case.name].outcome))
        for case in cases
        for fault in case.faults
    ]
    seen = [found for fault, found in rated if not fault.unseen]
    return {
        "scripts": len(cases),
        "exact": sum(known[case.name].again == "exact" for case in cases),
        "close": sum(known[case.name].again == "close" for case in cases),
        "faults": len(seen),
        **{key: sum(found[key] for found in seen) for key in ("found", "failed", "first")},
        "faults_nothing_can_see": len(rated) - len(seen),
        "false_fails": sum("fail" in said(o).values() for o in healthy if not o.problem),
        "false_warns": sum("fail" not in said(o).values() and "warn" in said(o).values() for o in healthy),
        "could_not_tell": sum(bool(o.errors or o.problem) for o in healthy),
    }


def show(cases: Sequence[ScriptCase], known: dict[str, Run], *, names: bool, held_out: bool) -> None:
    """What was missed, and who was accused."""
    for case in cases:
        if not (held_out or (names and tuned(case.name))):
            continue
        clean = known[case.name]
        if said(clean.outcome) or clean.outcome.errors or clean.again != "exact":
            print(
                f"\nHEALTHY {case.name}: {said(clean.outcome)} {clean.outcome.errors} {clean.outcome.problem} [{clean.again}]"
            )
            for id in (*said(clean.outcome), *clean.outcome.errors):
                print(f"    {id} - {clean.outcome.words.get(id, '')}")
        for fault in case.faults:
            faulty = known[f"{case.name}/{fault.name}"].outcome
            rated = rate_fault(fault.expected, faulty, clean.outcome)
            if rated["found"] and rated["first"]:
                continue
            head = "unseen" if fault.unseen else "late" if rated["found"] else "MISS"
            print(f"\n{head} {case.name}/{fault.name}: says {list(said(faulty)) or 'nothing'} {faulty.problem}")
            for id in fault.expected:
                print(f"    {id} - {faulty.words.get(id, 'not asked')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="part of a script's name")
    parser.add_argument("-v", "--verbose", action="store_true", help="names of the half that rules are worked on with")
    parser.add_argument("--held-out", action="store_true", help="names of the other half too")
    parser.add_argument("--healthy", action="store_true", help="only the scripts as they stand")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cases = [case for case in scripts() if options.pattern in case.name]
    if options.healthy:
        cases = [replace(case, faults=()) for case in cases]
    jobs: list[tuple[ScriptCase, Fault | None]] = [(case, None) for case in cases]
    jobs += [(case, fault) for case in cases for fault in case.faults]
    begun = time.monotonic()
    known: dict[str, Run] = {}
    for run in runs(jobs, options.workers):
        known[run.outcome.job.name] = run
        if sys.stderr.isatty():
            print(f"\r{len(known)} of {len(jobs)}", end="", file=sys.stderr)
    parts = {
        "tuned": [case for case in cases if tuned(case.name)],
        "held_out": [case for case in cases if not tuned(case.name)],
    }
    kept = {name: rate(part, known) for name, part in parts.items()}
    show(cases, known, names=options.verbose, held_out=options.held_out)
    for name, words in HALVES.items():
        h = kept[name]
        print(f"\nhalf {words}: {h['scripts']} scripts, first loss again exactly {h['exact']}, closely {h['close']}")
        print(f"  found {share(h['found'], h['faults'])}, by a fail {share(h['failed'], h['faults'])}, ", end="")
        print(f"right check first {share(h['first'], h['faults'])}; ", end="")
        print(f"false fails {h['false_fails']}, false warns {h['false_warns']}, could not tell {h['could_not_tell']}")
    print(f"\n{len(jobs)} runs in {time.monotonic() - begun:.0f} s")
    if not options.pattern and not options.healthy:
        keep({"scripts": kept})
    return 0


if __name__ == "__main__":
    sys.exit(main())
