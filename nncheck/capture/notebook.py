"""A notebook run as a script: its code cells one after the other, in one namespace."""

from __future__ import annotations

import json
import linecache
import os
import re
from pathlib import Path
from typing import Any

from nncheck.errors import TargetError
from nncheck.observe.source import shown

# Cell magics whose cell is Python all the same; any other's (`%%bash`, `%%html`, `%%writefile`) is not run.
_OF_PYTHON = ("time", "timeit", "capture", "prun", "python", "python3", "snakeviz", "memray_flamegraph")

_MAGIC = re.compile(
    r"^(?P<indent>\s*)(?P<bind>[\w.,\s\[\]'\"]+=\s*)?(?P<magic>[%!]{1,2}\s*[\w./~{$].*|[\w.]+\?{1,2}|\?{1,2}[\w.]+)\s*$"
)
_FOLDER = re.compile(r"%?cd\s+(?:-q\s+)?['\"]?(?P<folder>[^'\"]+?)['\"]?\s*$")
_VARIABLE = re.compile(r"%(?:set_)?env\s+(?P<name>\w+)[=\s]\s*(?P<value>.*?)\s*$")


class _Shell:
    """What `get_ipython()` gives: magics called by name do nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def cells_of(path: Path) -> list[tuple[int, str]]:
    """The code cells of a notebook, numbered from 1 among its code cells. Raises TargetError if it is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found = [cell["source"] for cell in told["cells"] if cell["cell_type"] == "code"]
        return [(i, source if isinstance(source, str) else "".join(source)) for i, source in enumerate(found, 1)]
    except OSError as error:
        raise TargetError(f"{shown(str(path))} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(
            f"{shown(str(path))} is not a notebook of format 4", help="save it again with a present Jupyter"
        ) from error


def python_of(source: str) -> str:
    """A cell's text as Python, line for line: magics and shell commands are taken out."""
    lines = source.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is not None and lines[first].startswith("%%"):
        name = lines[first][2:].partition(" ")[0].strip()
        if name not in _OF_PYTHON:
            return ""
        lines[first] = ""
    turned: list[str] = []
    open_string = False
    for line in lines:
        turned.append(line if open_string else _line(line))
        if (line.count('"""') + line.count("'''")) % 2:
            open_string = not open_string
    return "\n".join(turned) + "\n"


def _line(line: str) -> str:
    match = _MAGIC.match(line)
    if match is None:
        return line
    indent, bound, magic = match["indent"], match["bind"], match["magic"]
    if bound:
        return f"{indent}{bound}[]  # {magic}"
    folder, variable = _FOLDER.match(magic), _VARIABLE.match(magic)
    if folder:
        return f"{indent}__import__('os').chdir({os.path.expanduser(folder['folder'])!r})"
    if variable:
        return f"{indent}__import__('os').environ[{variable['name']!r}] = {variable['value']!r}"
    return f"{indent}pass  # {magic}"


def run_cells(path: Path, names: dict[str, Any]) -> None:
    """Run the code cells one after the other. Errors point to a cell and a line in it: `train.ipynb cell 6`, line 3."""
    names.update(get_ipython=_Shell, display=print)
    for number, source in cells_of(path):
        text, name = python_of(source), f"{path} cell {number}"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec", dont_inherit=True), names)
