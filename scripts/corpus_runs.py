"""Ask a tool about every set-up of the corpus, each in a worker process that may crash or hang without harm."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import multiprocessing
import os
import pickle
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

Variant = Literal["faulty", "clean", "sound"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One set-up to ask about: a twin with its fault, the same without, or a sound set-up."""

    name: str
    variant: Variant


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a tool said of one set-up.

    `findings`: what it reports, the first to read first, with "fail" or "warn". `words`: why every other check was quiet.
    `problem`: why the tool could not do its work there at all.
    """

    job: Job
    findings: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    problem: str = ""
    steps: float = 0.0
    seconds: float = 0.0


Judge = Callable[[Any, Job], Outcome]

START_SECONDS = 60.0
"""A process may take this long to load torch and the corpus, on a machine that has other work."""

NOTES = ROOT / "build" / "corpus"
"""Outcomes so far, so that a run that was ended goes on where it was."""


def sources(parts: Sequence[str]) -> str:
    """A fingerprint of what an outcome depends on: the set-ups, how they are run, and these parts of nncheck."""
    digest = hashlib.sha256()
    for folder in (*parts, "tests/corpus", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_on(
    jobs: Sequence[Job], judge: str, *, workers: int, limit: float, parts: Sequence[str] = ("nncheck",)
) -> Iterator[Outcome]:
    """As `run`, with the outcomes noted of an earlier run of the very same sources taken as they are."""
    notes = NOTES / f"{judge.partition(':')[2]}-{sources(parts)}.pickle"
    known: dict[Job, Outcome] = {}
    with contextlib.suppress(FileNotFoundError, EOFError, pickle.UnpicklingError), notes.open("rb") as file:
        while True:
            outcome = pickle.load(file)
            known[outcome.job] = outcome
    yield from (known[job] for job in jobs if job in known)
    notes.parent.mkdir(parents=True, exist_ok=True)
    for outcome in run([job for job in jobs if job not in known], judge, workers=workers, limit=limit):
        with notes.open("ab") as file:
            pickle.dump(outcome, file)
        yield outcome


def run(jobs: Sequence[Job], judge: str, *, workers: int = 2, limit: float = 120.0) -> Iterator[Outcome]:
    """Every job's outcome as it comes. `judge` is "module:function"; a job that takes longer than `limit` seconds is ended."""
    waiting = list(reversed(jobs))
    pool = [_Worker(judge) for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or any(worker.job for worker in pool):
            for worker in pool:
                if worker.job is None and waiting:
                    worker.give(waiting.pop())
            busy = [worker for worker in pool if worker.job]
            ready = wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in busy:
                if worker.pipe in ready:
                    if outcome := worker.take():
                        yield outcome
                elif worker.age() > limit + (0.0 if worker.up else START_SECONDS):
                    yield worker.renew(f"no answer within {limit:.0f} s")
    finally:
        for worker in pool:
            worker.stop()


class _Worker:
    """A process that answers one job at a time; a new one takes its place when it dies."""

    def __init__(self, judge: str) -> None:
        self.judge = judge
        self.job: Job | None = None
        self.since = 0.0
        self._start()

    def _start(self) -> None:
        self.up = False
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_work, args=(theirs, self.judge), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        self.pipe.send(job)

    def age(self) -> float:
        """Seconds since the job was taken up; while the process still starts, since it was given."""
        return time.monotonic() - self.since

    def take(self) -> Outcome | None:
        """The outcome; None where the worker only tells that it is up, and starts on the job now."""
        try:
            outcome: Outcome | None = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return self.renew(f"the process died with exit code {self.process.exitcode}")
        if outcome is None:
            self.up, self.since = True, time.monotonic()
            return None
        self.job = None
        return outcome

    def renew(self, problem: str) -> Outcome:
        assert self.job is not None
        outcome = Outcome(job=self.job, problem=problem, seconds=self.age())
        self.stop()
        self._start()
        self.job = None
        return outcome

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, judge: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    module, _, function = judge.partition(":")
    ask: Judge = getattr(importlib.import_module(module), function)
    from tests.corpus import corpus

    twins, sounds = corpus()
    makers: dict[tuple[str, str], Callable[[], Any]] = {}
    for t in twins:
        makers[t.name, "faulty"] = lambda t=t: t.make(True)
        makers[t.name, "clean"] = lambda t=t: t.make(False)
    for s in sounds:
        makers[s.name, "sound"] = s.make
    pipe.send(None)
    sink = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        begun = time.monotonic()
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seed_all()
            try:
                outcome = ask(makers[job.name, job.variant], job)
            except Exception as error:  # noqa: BLE001  # a crash of the tool on one set-up is an outcome
                text = f"{type(error).__name__}: {error}"
                outcome = Outcome(job=job, problem=text[:300], seconds=time.monotonic() - begun)
        pipe.send(outcome)


def seed_all() -> None:
    """The same generators for every set-up, whatever ran before it."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def jobs_of(twins: Sequence[Any], sounds: Sequence[Any]) -> list[Job]:
    """Both variants of every twin, and every sound set-up."""
    jobs = [Job(name=t.name, variant=v) for t in twins for v in ("faulty", "clean")]
    return jobs + [Job(name=s.name, variant="sound") for s in sounds]
