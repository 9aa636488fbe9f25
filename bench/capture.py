"""What capture adds to a script's own time to its first optimizer step: the same script side by side, alone and captured.

Every run is a fresh copy of a process that has imported torch and nncheck's checks, and nothing else: what the script itself
imports counts as its own time in both. The clock runs from before its first line until its first step is about to be taken;
captured, until nncheck's own work on what it found would begin: the script's copy that goes on is made by then. The same for
the processor time of the process, which other work on the machine disturbs less.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.tables import table
from nncheck.capture import load
from nncheck.registry import load as load_checks
from nncheck.target.loading import parse_target
from tests.scripts import FILES, ScriptCase, scripts

# One of each layout.
NAMES = (
    "flat_resnet",
    "guarded_table",
    "trainer_class",
    "char_gpt",
    "word_rnn",
    "dcgan_digits",
    "accumulate_vit",
    "graph_conv",
)
# One round of each is left out of account: it brings the files that a script imports into memory.
ROUNDS = 5
LIMIT_SECONDS = 120.0

load_checks()


def measure() -> str:
    """One row a script: medians of seconds, and of the ratios of two runs that followed each other."""
    cases = {case.name: case for case in scripts()}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    rows: list[list[str]] = []
    ratios: list[tuple[float, ...]] = []
    for name in NAMES:
        times: dict[Callable[[ScriptCase, Connection], None], list[tuple[float, ...]]] = {alone: [], captured: []}
        for number in range(ROUNDS + 1):
            # In turn: what grows slower or faster meanwhile does so for both.
            for run in (alone, captured) if number % 2 else (captured, alone):
                times[run].append(_seconds(context, run, cases[name]))
        own, with_capture = _medians(times[alone][1:]), _medians(times[captured][1:])
        pairs = zip(times[alone][1:], times[captured][1:], strict=True)
        ratios.append(_medians([tuple(b / a for a, b in zip(*pair, strict=True)) for pair in pairs]))
        rows.append([name, f"{own[0]:.2f} s", f"{with_capture[0]:.2f} s", *(f"{ratio:.2f}" for ratio in ratios[-1])])
    rows.append(["median", "", "", *(f"{ratio:.2f}" for ratio in _medians(ratios))])
    head = ["script", "alone", "captured", "ratio", "ratio of processor time"]
    return table("Time of a script to its first optimizer step, alone and captured (limit: 1.10)", head, rows)


def _medians(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(median(column) for column in zip(*rows, strict=True))


def alone(case: ScriptCase, answer: Connection) -> None:
    """As `python script.py` would run it."""
    begun = _begin(case)
    register_optimizer_step_pre_hook(lambda *_: _end(answer, begun))
    runpy.run_path(sys.argv[0], run_name="__main__")


def captured(case: ScriptCase, answer: Connection) -> None:
    """As `nncheck run script.py` runs it."""
    target = parse_target(case.path.name)
    load._found = lambda _: _end(answer, begun)  # type: ignore[assignment]
    begun = _begin(case)
    load.capture(target, case.arguments, lambda _: None, cpu=False)


def _begin(case: ScriptCase) -> tuple[float, float]:
    sys.argv[:] = [case.path.name, *case.arguments]
    sys.path.insert(0, os.getcwd())
    return time.perf_counter(), time.process_time()


def _end(answer: Connection, begun: tuple[float, float]) -> None:
    answer.send((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    os._exit(0)


def _inside(run: Callable[[ScriptCase, Connection], None], case: ScriptCase, folder: str, answer: Connection) -> None:
    """In the copy: the script has its folder, prints nowhere, and the one thread of all these tables."""
    os.chdir(folder)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(case, answer)


def _seconds(
    context: multiprocessing.context.ForkServerContext, run: Callable[[ScriptCase, Connection], None], case: ScriptCase
) -> tuple[float, float]:
    """To the first step, by the clock and of the processor. Raises TimeoutError if the script does not come to its first step."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(case.path, folder)
        for beside in case.beside:
            shutil.copy(FILES / beside, folder)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_inside, args=(run, case, str(Path(folder)), sender))
        process.start()
        sender.close()
        try:
            if not receiver.poll(LIMIT_SECONDS):
                raise TimeoutError(f"{case.name}, {run.__name__}: no first step in {LIMIT_SECONDS:.0f} s")
            wall, processor = receiver.recv()
            return float(wall), float(processor)
        finally:
            process.kill()
            process.join()
