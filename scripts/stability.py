"""How often a verdict turns with the seed: every example many times, each run with another seed, under whatever load there is.

    python scripts/stability.py [--runs 20] [--jobs 2] [PART OF A NAME ...]

Prints each check whose verdict was not always the same, with the figures it gave, and the share of verdicts that differ from
what most runs said. Results are kept in build/stability.json by example, seed and the sources' hash, so that a run that was
cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from corpus_runs import ROOT, sources

os.environ.setdefault("OMP_NUM_THREADS", "1")

KEPT = ROOT / "build" / "stability.json"
SEED_STEP = 101  # seeds that nobody would choose as neighbours


def _run(name: str, seed: int) -> dict[str, Any]:
    """What every check of one example said with one seed."""
    from nncheck.config import Config
    from nncheck.process import start
    from nncheck.process.outputs import Outputs
    from nncheck.process.session import Job, Options
    from nncheck.registry import select

    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        job = Job(target=str(ROOT / "examples" / name), selected=select((), ()), config=Config())
        options = Options(jobs=(job,), outputs=Outputs(json=result), seed=seed, quiet=True)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for the rest of this process's life
        start.run(options, own_process=False)
        (target,) = json.loads(result.read_text(encoding="utf-8"))["targets"]
    kept = ("status", "near", "numbers", "spread")
    return {
        "verdict": target["verdict"],
        "findings": target["findings"],
        "checks": {check["id"]: {key: check.get(key) for key in kept} for check in target["checks"]},
    }


def _load() -> None:
    from nncheck.registry import load

    load()


def _flips(runs: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """By check, how often it said what, where it did not always say the same."""
    ids = dict.fromkeys(id for run in runs for id in run["checks"])
    said = {id: Counter(run["checks"][id]["status"] for run in runs if id in run["checks"]) for id in ids}
    return {id: counts for id, counts in said.items() if len(counts) > 1}


def _tell(results: dict[str, list[dict[str, Any]]]) -> None:
    turned = {"healthy": 0, "sick": 0}
    asked = {"healthy": 0, "sick": 0}
    first: Counter[str] = Counter()
    for name, runs in sorted(results.items()):
        kind = "sick" if name.startswith("sick/") else "healthy"
        asked[kind] += sum(len(run["checks"]) for run in runs)
        verdicts = Counter(run["verdict"] for run in runs)
        if len(verdicts) > 1:
            print(f"{name}: VERDICT {dict(verdicts)}")
        firsts = Counter(next(iter(run["findings"]), "nothing") for run in runs)
        first[kind] += sum(firsts.values()) - max(firsts.values())
        if len(firsts) > 1:
            print(f"{name}: first finding {dict(firsts)}")
        for id, counts in _flips(runs).items():
            turned[kind] += sum(counts.values()) - max(counts.values())
            near = sum(bool(run["checks"][id]["near"]) for run in runs if id in run["checks"])
            print(f"{name}: {id} {dict(counts)}, said to be near in {near}")
    for kind in ("healthy", "sick"):
        if asked[kind]:
            share = turned[kind] / asked[kind]
            print(f"{kind}: {turned[kind]} of {asked[kind]} verdicts differ from what most runs said ({share:.2%})")
            print(f"{kind}: the first finding differs in {first[kind]} runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    examples = [str(p.relative_to(ROOT / "examples")) for p in sorted((ROOT / "examples").rglob("*.py"))]
    examples = [name for name in examples if not asked.names or any(part in name for part in asked.names)]
    kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    now = sources(("nncheck", "examples"))
    if kept.get("sources") != now:
        kept = {"sources": now, "runs": {}}
    todo = [
        (name, k) for k in range(asked.runs) for name in examples if f"{name} {k}" not in kept["runs"]
    ]  # all examples once, then again: what is cut short has seen each equally often
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nncheck.runner", "nncheck.probes", "sklearn.datasets"])
    with ProcessPoolExecutor(asked.jobs, mp_context=context, initializer=_load, max_tasks_per_child=1) as pool:
        futures = {pool.submit(_run, name, SEED_STEP * k): (name, k) for name, k in todo}
        for number, future in enumerate(as_completed(futures), 1):
            name, k = futures[future]
            kept["runs"][f"{name} {k}"] = future.result()
            if number % 20 == 0 or number == len(futures):
                KEPT.parent.mkdir(exist_ok=True)
                KEPT.write_text(json.dumps(kept), encoding="utf-8")
                print(f"{number} of {len(futures)}", file=sys.stderr)
    _tell({name: [run for key, run in kept["runs"].items() if key.rpartition(" ")[0] == name] for name in examples})


if __name__ == "__main__":
    main()
