"""A script run once more from its beginning, in a process of its own: where a process cannot be copied, or to compare two runs."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import warnings
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
from nncheck.gate.recorder import Recorder
from nncheck.lab import batch as batches
from nncheck.lab.snapshot import seed_everything
from nncheck.process.parent import die_with_the_parent
from nncheck.target.loading import parse_target


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the other process is to do: go on with the script, or tell what it had at its first step.

    seed: of every generator when the script begins; vary: for each run, the one that begins with another, or "".
    scratch: the folder it writes into.
    """

    task: Literal["onward", "beginning"]
    path: str
    arguments: tuple[str, ...]
    seed: int
    cpu: bool
    scratch: str
    vary: tuple[str, ...] = ("",)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a script had at its first step: sums of its models' tensors and of its data, and the generators' states."""

    weights: tuple[float, ...]
    data: tuple[float, ...]
    states: dict[str, bytes]


def start(early: Early) -> subprocess.Popen[bytes]:
    """A process started as this one was. It is given a `Job`, pickled, by its standard input; the answer comes by its output.

    One that can be forked may be given several jobs about the beginning: it has imported torch for all of them.
    """
    # -P: a file of the user's called like a module of Python's is not to be imported by us.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "nncheck.capture.again"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=early.folder,
        env=early.environment,
    )


def give(
    process: subprocess.Popen[bytes],
    early: Early,
    task: Literal["onward", "beginning"],
    *,
    scratch: str,
    vary: tuple[str, ...] = ("",),
) -> None:
    """Give it a job. Where a process cannot be forked it does the first run of it only, and ends."""
    job = Job(
        task=task,
        path=early.path,
        arguments=early.arguments,
        seed=early.seed,
        cpu=early.cpu,
        scratch=scratch,
        vary=vary,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(job))
    process.stdin.flush()


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


def _run(job: Job, vary: str, answer: int) -> None:
    def instead(script: Script) -> None:
        if job.task == "onward":
            onward.become(script, answer)
            return
        _tell(answer, [beginning_of(script)])
        os._exit(0)

    onward.instead = instead
    Overlay.always = True
    tempfile.tempdir = job.scratch
    seed_everything(job.seed)
    other = (job.seed + 1) % 2**32
    if vary == "torch":
        torch.manual_seed(other)
    elif vary == "NumPy":
        np.random.seed(other)
    elif vary == "Python":
        random.seed(other)
    target = parse_target(job.path)
    script = Script(target.path, job.arguments, lambda _: None)
    # Not by way of `capture`: no check is asked here, and to import them all takes as long as torch.
    with Containment(script).around(), patched(script, cpu=job.cpu):
        script.run(lambda: execute(target, job.arguments))


def _copies(job: Job) -> list[Beginning]:
    """Every run of a job in a copy of this process, side by side; none of those that did not get to a first step."""
    importlib.import_module("torch._dynamo")  # the first optimizer that is made imports it: once is enough

    copies = []
    for vary in job.vary:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
            pid = os.fork()
        if not pid:
            try:
                die_with_the_parent()
                _run(job, vary, writer)
            finally:
                os._exit(1)
        os.close(writer)
        copies.append((pid, reader))
    found = []
    for pid, reader in copies:
        with os.fdopen(reader, "rb") as pipe, contextlib.suppress(EOFError):
            found += pickle.load(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return found


def _tell(answer: int, value: Any) -> None:
    told = pickle.dumps(value)
    while told:
        told = told[os.write(answer, told) :]


def main() -> None:
    """Do the jobs that come by standard input; answer by standard output, which the script itself never gets."""
    die_with_the_parent()
    Recorder.follow()
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs, answer = os.fdopen(os.dup(0), "rb"), os.dup(1)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    try:
        while True:
            job = pickle.load(jobs)
            if job.task == "onward" or not hasattr(os, "fork"):
                _run(job, job.vary[0], answer)
                return
            _tell(answer, _copies(job))
    finally:
        os._exit(1)  # no more jobs; or whatever the script left running, or however it failed, there is no answer


if __name__ == "__main__":
    from nncheck.capture import again  # under its own name: what is sent back is to be known there

    again.main()
