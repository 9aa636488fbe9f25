"""Two beginnings of the same script, which differ in nothing but what one generator had drawn before."""

from __future__ import annotations

import os
import pickle
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nncheck.capture.again import Beginning, give, start
from nncheck.capture.early import Early
from nncheck.errors import CannotMeasure

# A second run takes as long as the first, and Python's and torch's start; with others beside it, several times that.
START_SECONDS, SLOWER = 60.0, 5.0

Runs = Callable[..., list[Beginning]]
"""Runs the script, side by side, once for each generator that is to begin with another seed; "" for none."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What came out differently at the first step: tensors of the model, data. settled: the generator stands at the same place."""

    weights: int
    tensors: int
    data: bool
    settled: bool


def compare(early: Early, generator: str, look: Callable[[], None]) -> Compared:
    """Run the script to its first step from one state of a generator and from another; `look` is called while that takes.

    Raises CannotMeasure if a run does not get there, or if two runs that begin alike differ.
    """
    with _runs(early, look) as run:
        one, other = run("", generator)
        found = Compared(
            weights=sum(a != b for a, b in zip(one.weights, other.weights, strict=False)),
            tensors=len(one.weights),
            data=one.data != other.data,
            settled=one.states[generator] == other.states[generator],
        )
        if found.settled and (found.weights or found.data):
            (again,) = run("")
            if (again.weights, again.data) != (one.weights, one.data):
                raise CannotMeasure("two runs of the script that begin alike differ at its first step")
        return found


@contextmanager
def _runs(early: Early, look: Callable[[], None]) -> Iterator[Runs]:
    """All in copies of one process, which has imported torch; where no process can be copied, in one each."""
    scratch = tempfile.mkdtemp(prefix="nncheck-")
    processes: list[subprocess.Popen[bytes]] = []

    def given(*vary: str) -> subprocess.Popen[bytes]:
        if not processes or not hasattr(os, "fork"):
            processes.append(start(early))
        give(processes[-1], early, "beginning", scratch=scratch, vary=vary)
        return processes[-1]

    def run(*vary: str) -> list[Beginning]:
        end = time.monotonic() + START_SECONDS + SLOWER * early.seconds
        asked = [given(*vary)] if hasattr(os, "fork") else [given(one) for one in vary]
        found = [beginning for process in asked for beginning in _read(process, end, look)]
        if len(found) < len(vary):
            raise CannotMeasure("a second run of the script did not come to its first step")
        return found

    try:
        yield run
    finally:
        for process in processes:
            with process:
                process.kill()
        shutil.rmtree(scratch, ignore_errors=True)


def _read(process: subprocess.Popen[bytes], end: float, look: Callable[[], None]) -> list[Beginning]:
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.1)[0]:
        look()
        if time.monotonic() > end:
            raise CannotMeasure("a second run of the script took too long to its first step")
    try:
        found: list[Beginning] = pickle.load(process.stdout)
    except EOFError:  # it ended without an answer
        return []
    return found
