"""Lines of a script that may step a schedule: whether one that never did could still come."""

from __future__ import annotations

import ast
import sys

from nncheck.capture.children import script_frames
from nncheck.capture.loops import tree_of
from nncheck.observe.source import is_users, place_at
from nncheck.verdict import Place

Stack = tuple[tuple[str, int], ...]
"""Files and lines of the user's frames."""

# Interface: what else has a method `step`, by how it is called.
_OTHERS = ("opt", "env", "scaler", "prof", "progress", "bar", "trainer")


def stack() -> Stack:
    """Where the user's frames stand now, the innermost first."""
    return tuple((frame.f_code.co_filename, frame.f_lineno) for frame in script_frames(sys._getframe(1)))


def lines_that_may_step(
    steps: Stack, reached: set[tuple[str | None, int | None]], not_its_own: frozenset[str] = frozenset()
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Calls of some `.step(...)` that were not reached and may be a schedule's; of them, those behind the loop of `steps`.

    not_its_own: modules that have nothing to do with the script.
    """
    files = {file for file, _ in steps}
    for name, module in list(sys.modules.items()):
        if name in not_its_own:
            continue
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and is_users(file):
            files.add(file)
    waiting: list[Place] = []
    behind: list[Place] = []
    for file in sorted(files):
        tree = tree_of(file)
        for call in ast.walk(tree) if tree is not None else ():
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "step":
                continue
            owner = ast.unparse(call.func.value).lower()
            place = place_at(ast.unparse(call.func), file, call.lineno)
            if (place.file, place.line) in reached or any(word in owner for word in _OTHERS):
                continue
            past = any(f == file and tree is not None and _is_behind(tree, call.lineno, line) for f, line in steps)
            (behind if past else waiting).append(place)
    return tuple(waiting), tuple(behind)


def _is_behind(tree: ast.Module, line: int, inside: int) -> bool:
    """Whether a line comes after the outermost loop that goes round another, in the same function."""
    here, there = _function(tree, line), _function(tree, inside)
    if here is not there:
        return False
    loops = [
        node for node in ast.walk(here)
        if isinstance(node, (ast.For, ast.While)) and node.lineno <= inside <= (node.end_lineno or 0)
        and _function(tree, node.lineno) is here
    ]  # fmt: skip
    return bool(loops) and line > max(node.end_lineno or 0 for node in loops)


def _function(tree: ast.Module, line: int) -> ast.AST:
    """The innermost function around a line; the module if there is none."""
    around = [
        node for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.lineno <= line <= (node.end_lineno or 0)
    ]  # fmt: skip
    return max(around, key=lambda node: node.lineno, default=tree)


def share_a_loop(here: tuple[tuple[str, str, int], ...], there: tuple[tuple[str, str, int], ...]) -> bool:
    """Whether two stacks (file, function, line) stood in the same loop of the same function."""
    for file, function, line in here:
        for other, name, inside in there:
            tree = tree_of(file) if (file, function) == (other, name) else None
            for node in ast.walk(tree) if tree is not None else ():
                if isinstance(node, (ast.For, ast.While)) and node.body:
                    first, last = node.body[0].lineno, node.end_lineno or 0
                    if first <= line <= last and first <= inside <= last:
                        return True
    return False
