"""A script run once more from its beginning, in a process of its own: where a process cannot be copied, or to compare two runs."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from nncheck.capture import onward
from nncheck.capture.early import Early, states
from nncheck.capture.endings import Containment
from nncheck.capture.hooks import patched
from nncheck.capture.overlay import Overlay
from nncheck.capture.running import execute
from nncheck.capture.script import Script
from nncheck.lab import batch as batches
from nncheck.lab.snapshot import seed_everything
from nncheck.process.parent import die_with_the_parent
from nncheck.target.loading import parse_target


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the other process is to do: go on with the script, or tell what it had at its first step.

    seed: of every generator when the script begins; vary: one that begins with another. scratch: the folder it writes into.
    """

    task: Literal["onward", "beginning"]
    path: str
    arguments: tuple[str, ...]
    seed: int
    cpu: bool
    scratch: str
    vary: str = ""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a script had at its first step: sums of its models' tensors and of its data, and the generators' states."""

    weights: tuple[float, ...]
    data: tuple[float, ...]
    states: dict[str, bytes]


def begin(
    early: Early, task: Literal["onward", "beginning"], *, scratch: str, vary: str = ""
) -> subprocess.Popen[bytes]:
    """Start it as this one was started. The answer, pickled, is what it writes to its standard output."""
    job = Job(
        task=task,
        path=early.path,
        arguments=early.arguments,
        seed=early.seed,
        cpu=early.cpu,
        scratch=scratch,
        vary=vary,
    )
    # -P: a file of the user's called like a module of Python's is not to be imported by us.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "nncheck.capture.again"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=early.folder,
        env=early.environment,
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(pickle.dumps(job))
    return process


def beginning_of(script: Script) -> Beginning:
    """What a script has at its first step."""
    record = script.record
    taken = [] if record.called is None else record.called.taken.tensors
    data = [request.batch for request in record.requests.values()]
    return Beginning(
        weights=tuple(_sum(tensor) for _, tensor, _ in record.tensors),
        data=tuple(_sum(tensor) for _, tensor in batches.named_tensors([data, taken])),
        states=states(),
    )


def _sum(tensor: Any) -> float:
    return float(torch.nan_to_num(tensor.detach().double()).sum())


def _run(job: Job, answer: int) -> None:
    def instead(script: Script) -> None:
        if job.task == "onward":
            onward.become(script, answer)
            return
        _tell(answer, beginning_of(script))

    onward.instead = instead
    Overlay.always = True
    tempfile.tempdir = job.scratch
    seed_everything(job.seed)
    other = (job.seed + 1) % 2**32
    if job.vary == "torch":
        torch.manual_seed(other)
    elif job.vary == "NumPy":
        np.random.seed(other)
    elif job.vary == "Python":
        random.seed(other)
    target = parse_target(job.path)
    script = Script(target.path, job.arguments, lambda _: None)
    # Not by way of `capture`: no check is asked here, and to import them all takes as long as torch.
    with Containment(script).around(), patched(script, cpu=job.cpu):
        script.run(lambda: execute(target, job.arguments))


def _tell(answer: int, value: Any) -> None:
    told = pickle.dumps(value)
    while told:
        told = told[os.write(answer, told) :]
    os._exit(0)


def main() -> None:
    """Do the job that comes by standard input; answer by standard output, which the script itself never gets."""
    die_with_the_parent()
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = pickle.loads(sys.stdin.buffer.read())
    answer = os.dup(1)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    try:
        _run(job, answer)
    finally:
        os._exit(1)  # whatever the script left running, or however it failed: there is no answer


if __name__ == "__main__":
    from nncheck.capture import again  # under its own name: what is sent back is to be known there

    again.main()
