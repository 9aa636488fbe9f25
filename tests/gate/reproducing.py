"""`reproduce.py`, run in this process: what it says and how it ends."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import warnings
from pathlib import Path

import torch

from nncheck.report.json import from_json
from nncheck.reproduce.compose import reproduction


def script_for(result: Path, id: str | None = None) -> str:
    """The script for the first finding of a saved result, or for that of the check `id`."""
    report = from_json(result.read_text(encoding="utf-8"))
    target = next(target for target in report.targets if target.findings and id in (None, *target.findings))
    text = reproduction(target, target.check(id or target.findings[0]), seed=report.environment["seed"], folder="")
    assert text is not None
    assert "nncheck" not in {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    return text


def run_script(text: str, file: Path) -> tuple[int, str]:
    """Its exit code and all that was printed, by the user's file too."""
    said = io.StringIO()
    path, argv, modules, folder = list(sys.path), sys.argv, dict(sys.modules), os.getcwd()
    state, python = torch.get_rng_state(), random.getstate()
    sys.argv = ["reproduce.py", str(file)]
    code: object = None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(text, "reproduce.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code
    finally:
        sys.path[:], sys.argv = path, argv
        os.chdir(folder)
        torch.set_rng_state(state)
        random.setstate(python)
        for name in sys.modules.keys() - modules.keys():
            if name == "checked":
                del sys.modules[name]
        sys.modules["nncheck"] = modules["nncheck"]  # a script has a stand-in for files that import it
    assert isinstance(code, int), said.getvalue()
    return code, said.getvalue()
