"""What a run in CI takes: a healthy digits target beyond `import torch`, the same unchanged, and two targets side by side."""

from __future__ import annotations

import os
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
    beyond = gate - bare
    rows = [
        ["import torch", f"{bare:.2f} s", ""],
        [f"nncheck run {TARGETS[0]}", f"{gate:.2f} s", ""],
        ["... beyond import torch", f"{beyond:.2f} s", _held(beyond, GATE_SECONDS)],
        ["... --cache, unchanged", f"{cached:.2f} s", f"{_held(cached, CACHED_SECONDS)}; {said[-1]}"],
        [f"nncheck run {' '.join(TARGETS)} --jobs 2", f"{together:.2f} s", ""],
        ["... --jobs 1", f"{in_turn:.2f} s", f"{in_turn / together:.2f} times as long, on {os.cpu_count()} cores"],
    ]
    return table("A run in CI", ["command", "wall time", "held to"], rows)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}


def _timed(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times)


def _held(seconds: float, bar: float) -> str:
    return f"{'less' if seconds < bar else 'MORE'} than {bar:g} s"


def _believed(done: subprocess.CompletedProcess[str]) -> str:
    again = "not run again" in done.stdout
    return f"{'not run again' if again else 'RUN AGAIN'}, {'TORCH IMPORTED' if 'True' in done.stderr else 'no torch'}"
