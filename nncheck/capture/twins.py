"""Two beginnings of the same script, which differ in nothing but what one generator had drawn before."""

from __future__ import annotations

import pickle
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from nncheck.capture.again import Beginning, begin
from nncheck.capture.early import Early
from nncheck.errors import CannotMeasure

# A second run takes as long as the first, and Python's and torch's start; with others beside it, several times that.
START_SECONDS, SLOWER = 30.0, 5.0


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
    scratch = tempfile.mkdtemp(prefix="nncheck-")
    processes = []
    try:
        processes = [begin(early, "beginning", scratch=scratch, vary=vary) for vary in ("", generator)]
        end = time.monotonic() + START_SECONDS + SLOWER * early.seconds
        one, other = (_read(process, end, look) for process in processes)
        found = Compared(
            weights=sum(a != b for a, b in zip(one.weights, other.weights, strict=False)),
            tensors=len(one.weights),
            data=one.data != other.data,
            settled=one.states[generator] == other.states[generator],
        )
        if found.settled and (found.weights or found.data):
            processes.append(begin(early, "beginning", scratch=scratch))
            again = _read(processes[-1], end + START_SECONDS + SLOWER * early.seconds, look)
            if (again.weights, again.data) != (one.weights, one.data):
                raise CannotMeasure("two runs of the script that begin alike differ at its first step")
        return found
    finally:
        for process in processes:
            with process:
                process.kill()
        shutil.rmtree(scratch, ignore_errors=True)


def _read(process: subprocess.Popen[bytes], end: float, look: Callable[[], None]) -> Beginning:
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 0.1)[0]:
        look()
        if time.monotonic() > end:
            raise CannotMeasure("a second run of the script took too long to its first step")
    told = process.stdout.read()
    if not told:
        raise CannotMeasure("a second run of the script did not come to its first step")
    found = pickle.loads(told)
    assert isinstance(found, Beginning)
    return found
