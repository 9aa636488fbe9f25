"""What capture adds to a script's own time to its first optimizer step: the same script, side by side, in processes of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.tables import table
from tests.scripts import FILES, ScriptCase, scripts

# One of each layout; each is stopped at its first step. Times are those of the script's own lines, imports of torch left out.
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
ROUNDS = 5

ALONE = """
import json, os, runpy, sys, time
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
def stop(*_):
    print("\\n" + json.dumps(time.perf_counter() - begun), file=sys.stderr, flush=True)
    os._exit(0)
register_optimizer_step_pre_hook(stop)
sys.argv = {argv!r}
sys.path.insert(0, ".")
begun = time.perf_counter()
runpy.run_path(sys.argv[0], run_name="__main__")
"""

CAPTURED = """
import json, os, sys, time
from pathlib import Path
import torch
import nncheck.capture.load as load
from nncheck.registry import load as catalogue
from nncheck.target.loading import parse_target
catalogue()
def stop(script):
    print("\\n" + json.dumps(time.perf_counter() - begun), file=sys.stderr, flush=True)
    os._exit(0)
load._found = stop
argv = {argv!r}
target = parse_target(argv[0])
begun = time.perf_counter()
load.capture(target, tuple(argv[1:]), lambda found: None, cpu=False)
"""


def measure() -> str:
    """One row a script: medians of alternating runs, and their ratio."""
    cases = {case.name: case for case in scripts()}
    rows, ratios = [], []
    for name in NAMES:
        alone, captured = [], []
        for _ in range(ROUNDS):
            alone.append(_seconds(cases[name], ALONE))
            captured.append(_seconds(cases[name], CAPTURED))
        ratio = median(captured) / median(alone)
        ratios.append(ratio)
        rows.append([name, f"{median(alone):.2f} s", f"{median(captured):.2f} s", f"{ratio:.2f}"])
    rows.append(["median", "", "", f"{median(ratios):.2f}"])
    head = ["script", "alone", "captured", "ratio"]
    return table("Time of a script to its first optimizer step, alone and captured (limit: 1.10)", head, rows)


def _seconds(case: ScriptCase, code: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(case.path, folder)
        for beside in case.beside:
            shutil.copy(FILES / beside, folder)
        done = subprocess.run(
            [sys.executable, "-c", code.format(argv=[case.path.name, *case.arguments])],
            cwd=Path(folder), capture_output=True, text=True, check=False,
        )  # fmt: skip
    return float(json.loads(done.stderr.strip().splitlines()[-1]))
