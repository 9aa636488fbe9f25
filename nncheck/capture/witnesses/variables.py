"""A script's variables while it runs: under which name something is held, and the line that puts it there."""

from __future__ import annotations

import ast
import linecache
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nncheck.observe.source import is_users, place_at
from nncheck.verdict import Place

# A loss in a list in a meter in a trainer: deeper than this, and in longer containers, nothing is looked for.
DEPTH, LONGEST = 4, 2000

_OF_MODULES = ("_parameters", "_buffers", "_modules")

_RUNS = (str(Path(__file__).parent.parent / "script.py"), "run")
_PUTS = {
    "append",
    "appendleft",
    "add",
    "extend",
    "insert",
    "update",
    "put",
    "push",
    "__call__",
    "log",
    "record",
    "store",
}


def users_frames() -> Iterator[FrameType]:
    """The user's frames on the present stack, innermost first; not those of who runs the script, a test for instance."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != _RUNS:
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


def find_path(wanted: Callable[[Any], bool]) -> tuple[str, FrameType] | None:
    """Under which name of the user's frames something lies, `self.meter.sum`, and the frame; the innermost first."""
    seen: set[int] = set()
    for frame in users_frames():
        for scope in (frame.f_locals, frame.f_globals):
            if id(scope) in seen:
                continue
            seen.add(id(scope))
            for name, value in list(scope.items()):
                if name.startswith("__") or isinstance(value, (ModuleType, type)):
                    continue
                path = _inside(name, value, wanted, DEPTH, seen)
                if path is not None:
                    return path, frame
    return None


def find_held(wanted: Callable[[Any], bool], objects: Iterable[Any]) -> Place | None:
    """Where a method of one of these objects puts something that it holds under `self`; None if none does."""
    waiting = list(objects)
    seen = {id(value) for value in waiting}
    for value in waiting:
        file = _file_of(type(value))
        if isinstance(value, nn.Module):
            waiting += [child for child in value.children() if id(child) not in seen]
            seen |= {id(child) for child in value.children()}
        if not is_users(file):
            continue
        for name, held in list((dict(vars(type(value))) | vars(value)).items()):
            path = None if name in _OF_MODULES else _inside(f"self.{name}", held, wanted, DEPTH, set())
            if path is not None:
                line = _binding(tree_of(file), path)
                return place_at(path, file, line) if line is not None else Place(name=path)
    return None


def line_that_says(name: str, objects: Iterable[Any]) -> Place:
    """The line of these objects' classes that has a name in quotes."""
    for file in dict.fromkeys(_file_of(kind) for value in objects for kind in type(value).__mro__):
        for node in ast.walk(tree_of(file)) if is_users(file) else ():
            if isinstance(node, ast.Constant) and node.value == name:
                return place_at(name, file, node.lineno)
    return Place(name=name)


def _inside(path: str, value: Any, wanted: Callable[[Any], bool], depth: int, seen: set[int]) -> str | None:
    if isinstance(value, Tensor):
        return path if wanted(value) else None
    if depth == 0 or id(value) in seen or isinstance(value, (str, bytes, int, float, nn.Module, Optimizer, type)):
        return None
    seen.add(id(value))
    inner: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping):
        inner = ((path, v) for v in list(value.values())[:LONGEST])
    elif isinstance(value, (list, tuple, set, deque)):
        inner = ((path, v) for v in list(value)[-LONGEST:])
    elif hasattr(value, "__dict__") and is_users(_file_of(type(value))):
        inner = ((f"{path}.{name}", v) for name, v in list(vars(value).items()))
    else:
        return None
    return next((found for p, v in inner if (found := _inside(p, v, wanted, depth - 1, seen)) is not None), None)


def _file_of(kind: type) -> str:
    return str(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<none>")


def line_that_binds(path: str, frame: FrameType) -> Place:
    """The line that gives the name its value, or puts something into it: in the frame's function first, then in its file."""
    file = frame.f_code.co_filename
    tree = tree_of(file)
    parts = path.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1) if parts[:n] != ["self"]]
    # The same name in another function is another variable, unless it is none of its own.
    functions = [
        f.f_code.co_firstlineno
        for f in users_frames()
        if f.f_code.co_filename == file and (f is frame or parts[0] not in f.f_code.co_varnames)
    ]
    bodies = [n for first in functions for n in ast.walk(tree) if _begins(n) == first]
    for name in names:
        for body in (*bodies, tree):
            line = _binding(body, name)
            if line is not None:
                return place_at(path, file, line)
    return place_at(path, file, frame.f_lineno)


def is_sum(name: str, frame: FrameType) -> bool:
    """Whether a variable of a function is added to and never divided where it stands: what it holds is divided later."""
    tree = tree_of(frame.f_code.co_filename)
    first = frame.f_code.co_firstlineno
    body = next((n for n in ast.walk(tree) if _begins(n) == first), tree)
    added = divided = False
    for node in ast.walk(body):
        if isinstance(node, ast.AugAssign) and _root(node.target) == name:
            added = added or isinstance(node.op, ast.Add)
            divided = divided or isinstance(node.op, (ast.Div, ast.FloorDiv, ast.Mult))
        elif isinstance(node, ast.Assign) and any(_root(target) == name for target in node.targets):
            operations = [n.op for n in ast.walk(node.value) if isinstance(n, ast.BinOp)]
            itself = any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node.value))
            added = added or (itself and any(isinstance(op, ast.Add) for op in operations))
            divided = divided or any(isinstance(op, ast.Div) for op in operations)
    return added and not divided


def _begins(node: ast.AST) -> int | None:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _binding(body: ast.AST, name: str) -> int | None:
    """Where something is added to a name; failing that, where it is bound last."""
    bound: int | None = None
    for node in ast.walk(body):
        if isinstance(node, ast.AugAssign) and _root(node.target) == name:
            return node.lineno
        if isinstance(node, ast.Call) and _puts_into(node) == name:
            return node.lineno
        plain = isinstance(node, ast.Assign) and not isinstance(node.value, (ast.Constant, ast.List, ast.Dict))
        if isinstance(node, ast.Assign) and plain and any(_root(t) == name for t in node.targets):
            bound = max(bound or 0, node.lineno)
    return bound


def _puts_into(call: ast.Call) -> str:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _PUTS:
        return ""
    return _root(call.func.value)


def _root(node: ast.AST) -> str:
    """`losses` for `losses["train"]`, `self.total` for itself."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return ast.unparse(node)


@lru_cache(maxsize=64)
def tree_of(file: str) -> ast.AST:
    """The syntax tree of a file of the user's; an empty one if it cannot be read."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])
