"""What the user's own loop does, as far as its source says: what it feeds the scheduler, whether it accumulates or clips."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nncheck.observe.source import is_users, place_at
from nncheck.recipe import Setup
from nncheck.verdict import Place


def fed_to_scheduler(setup: Setup) -> tuple[str, Place | None]:
    """The expression that a plateau scheduler is stepped with (`val_loss`, or Lightning's monitor), and where; "" if unknown."""
    found: list[tuple[str, Place | None]] = []
    for tree, file, first in _trees(setup):
        for node in ast.walk(tree):
            said = _fed(node)
            if said:
                line = getattr(node, "lineno", 1) + first - 1
                found.append((said, place_at("scheduler", file, line)))
    # Two answers that differ are none: one file may train two things.
    return found[0] if found and len({said for said, _ in found}) == 1 else ("", None)


def accumulates(setup: Setup) -> bool:
    """Whether the source speaks of gradients added up over several batches: an update is then not a batch."""
    for tree, _, _ in _trees(setup):
        for node in ast.walk(tree):
            name = getattr(node, "id", getattr(node, "attr", getattr(node, "arg", "")))
            if isinstance(name, str) and "accum" in name.lower():
                return True
            if setup.train_step is not None and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
                return True
    return False


def clips(setup: Setup) -> bool:
    """Whether the source clips gradients."""
    return any(
        "clip_grad" in str(getattr(node, "id", getattr(node, "attr", "")))
        for tree, _, _ in _trees(setup)
        for node in ast.walk(tree)
    )


def _fed(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step" and node.args:
        owner = ast.unparse(node.func.value).lower()
        return ast.unparse(node.args[0]) if any(word in owner for word in ("sched", "plateau")) else ""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "monitor" and isinstance(value, ast.Constant):
                return str(value.value)
    return ""


def _trees(setup: Setup) -> Iterator[tuple[ast.AST, str, int]]:
    """The user's step functions, the `configure_optimizers` of a Lightning module, and the file that binds the scheduler."""
    functions: list[Callable[..., Any] | None] = [
        setup.train_step, setup.training_step, getattr(type(setup.model), "configure_optimizers", None),
    ]  # fmt: skip
    for function in functions:
        try:
            file = None if function is None else inspect.getsourcefile(function)
            if file is None or function is None or not is_users(file):
                continue
            lines, first = inspect.getsourcelines(function)
            yield ast.parse(textwrap.dedent("".join(lines))), file, first
        except (OSError, TypeError, SyntaxError):
            continue
    place = setup.origins.get("scheduler") or setup.origins.get("optimizer")
    if place is not None and place.file is not None:
        try:
            yield ast.parse(Path(place.file).read_text(encoding="utf-8")), place.file, 1
        except (OSError, SyntaxError, ValueError):
            return
