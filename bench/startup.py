"""How long the commands take that need no torch, and whether they really do without it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.tables import table

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ASK = """
import sys
from nncheck.cli import main
sys.argv = ["nncheck", *{arguments!r}]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print(sorted({{"torch", "numpy", "matplotlib", "jinja2", "rich", "typer"}} & set(sys.modules)), code, file=sys.stderr)
"""


def measure() -> str:
    """One row a command: median of three."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "nncheck",
                "run",
                str(EXAMPLES / "digits_mlp.py"),
                "--no-report",
                "--json",
                str(result),
            ],
            capture_output=True,
            check=False,
        )
        for arguments in (
            ["--version"], ["--help"], ["list"], ["explain", "overfit-batch"],
            ["report", str(result), "-o", str(Path(folder) / "report.html")],
        ):  # fmt: skip
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                subprocess.run([sys.executable, "-m", "nncheck", *arguments], capture_output=True, check=True)
                times.append(time.perf_counter() - begun)
            asked = subprocess.run(
                [sys.executable, "-c", ASK.format(arguments=arguments)], capture_output=True, text=True, check=False
            )
            modules = asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else "?"
            shown = " ".join(Path(a).name if a.startswith(folder) else a for a in arguments)
            rows.append([f"nncheck {shown}", f"{median(times):.2f} s", modules])
    return table("Start-up", ["command", "time", "large modules imported, exit code"], rows)
