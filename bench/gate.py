"""What a run in CI takes: a healthy digits target beyond `import torch`, the same unchanged, and two targets side by side."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.tables import table

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TARGETS = ("digits_cnn.py", "digits_mlp.py")
GATE_SECONDS = 12.0  # beyond `import torch`
CACHED_SECONDS = 1.0  # in all

WITH_TORCH = """
import sys
from nncheck.cli import main
code = main()
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def measure() -> str:
    """Medians of three, and the bars they are held to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".git").mkdir()
        for target in TARGETS:
            shutil.copy(EXAMPLES / target, folder)

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", WITH_TORCH, "run", *arguments, "--json", "result.json"]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=_environment())

        bare = _timed(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True, env=_environment()))
        gate = _timed(lambda: run(TARGETS[0]))
        run(TARGETS[0], "--cache")
        said: list[str] = []
        cached = _timed(lambda: said.append(_believed(run(TARGETS[0], "--cache"))))
        together = _timed(lambda: run(*TARGETS, "--jobs", "2"))
        in_turn = _timed(lambda: run(*TARGETS, "--jobs", "1"))
    beyond = (gate[0] - bare[0], gate[1] - bare[1])
    rows = [
        ["import torch", *_both(bare), ""],
        [f"nncheck run {TARGETS[0]}", *_both(gate), ""],
        ["... beyond import torch", *_both(beyond), _held(beyond, GATE_SECONDS)],
        ["... --cache, unchanged", *_both(cached), f"{_held(cached, CACHED_SECONDS)}; {said[-1]}"],
        [f"nncheck run {' '.join(TARGETS)} --jobs 2", *_both(together), ""],
        ["... --jobs 1", *_both(in_turn), f"{in_turn[0] / together[0]:.2f} times as long, on {os.cpu_count()} cores"],
    ]
    # Where other work shares the cores, the processor time tells what the wall time would be without it.
    return table("A run in CI", ["command", "wall time", "processor time", "held to"], rows)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}


Times = tuple[float, float]


def _timed(work: Callable[[], object]) -> Times:
    """Wall and processor time of the processes that are started in it, medians of three."""
    walls, processors = [], []
    for _ in range(3):
        begun, before = time.perf_counter(), _spent()
        work()
        walls.append(time.perf_counter() - begun)
        processors.append(_spent() - before)
    return median(walls), median(processors)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _both(times: Times) -> list[str]:
    return [f"{seconds:.2f} s" for seconds in times]


def _held(times: Times, bar: float) -> str:
    return f"{'less' if times[0] < bar else 'MORE'} than {bar:g} s"


def _believed(done: subprocess.CompletedProcess[str]) -> str:
    again = "not run again" in done.stdout
    return f"{'not run again' if again else 'RUN AGAIN'}, {'TORCH IMPORTED' if 'True' in done.stderr else 'no torch'}"
