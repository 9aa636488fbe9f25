"""A loop's statements up to its loss: cut before the backward pass, in the loop itself or in the functions it calls for that."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import Any

from nncheck.capture.loops import covers, owner_of
from nncheck.capture.record import Stood


def cut(body: list[ast.stmt], line: int, within: Sequence[Stood] = ()) -> list[ast.stmt] | None:
    """Statements up to the one that calls backward, which becomes a `return` of the loss.

    within: the frames of the functions that the statement at this line calls for that, the innermost first: their statements take
    the place of the call. None if it cannot be written so.
    """
    kept: list[ast.stmt] = []
    for node in body:
        if not covers(node, line):
            if not _clears(node):
                kept.append(node)
            continue
        if isinstance(node, (ast.With, ast.If)):
            inner = cut(node.body, line, within)
            if inner is None:
                return None
            turned = copy.copy(node)
            turned.body = inner
            return [*kept, turned]
        if within:
            called = _called(node, within)
            return None if called is None else [*kept, *called]
        loss = _loss(node)
        return None if loss is None else [*kept, ast.Return(value=loss)]
    return None


def _called(node: ast.stmt, within: Sequence[Stood]) -> list[ast.stmt] | None:
    """What the function called by a statement does up to the loss, its parameters bound first."""
    stood = within[-1]
    owner: Any = owner_of(stood.frame.f_code)
    value = node.value if isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign)) else None
    calls = [n for n in ast.walk(value) if isinstance(n, ast.Call)] if value is not None else []
    calls = [call for call in calls if _name(call.func) == getattr(owner, "name", None)]
    # What another file's function calls by its names is not to be had here.
    if not isinstance(owner, ast.FunctionDef) or len(calls) != 1 or stood.frame.f_globals.get("__name__") != "__main__":
        return None
    bound = _bound(calls[0], owner)
    rest = cut(list(owner.body), stood.line, within[:-1])
    if bound is None or rest is None:
        return None
    changed = [(name, given) for name, given in bound if ast.unparse(given) != name]
    if not changed:
        return rest
    # All at once: one may be given by the name of another.
    names: list[ast.expr] = [ast.Name(id=name, ctx=ast.Store()) for name, _ in changed]
    values = [given for _, given in changed]
    if len(changed) == 1:
        return [ast.Assign(targets=names, value=values[0]), *rest]
    targets = ast.Tuple(elts=names, ctx=ast.Store())
    return [ast.Assign(targets=[targets], value=ast.Tuple(elts=values, ctx=ast.Load())), *rest]


def _bound(call: ast.Call, owner: ast.FunctionDef) -> list[tuple[str, ast.expr]] | None:
    """Each parameter of a function with what a call gives it; None for a star."""
    every = owner.args
    if every.vararg or every.kwarg or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    positional = [a.arg for a in (*every.posonlyargs, *every.args)]
    method = positional[:1] == ["self"] and isinstance(call.func, ast.Attribute)
    given = [*([call.func.value] if method and isinstance(call.func, ast.Attribute) else []), *call.args]
    first = len(positional) - len(every.defaults)
    bound: dict[str, ast.expr] = dict(zip(positional[first:], every.defaults, strict=True))
    bound |= {a.arg: d for a, d in zip(every.kwonlyargs, every.kw_defaults, strict=True) if d is not None}
    bound |= dict(zip(positional, given, strict=False))
    for keyword in call.keywords:
        if keyword.arg is None:
            return None
        bound[keyword.arg] = keyword.value
    return list(bound.items()) if all(name in bound for name in positional) else None


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _loss(node: ast.stmt) -> ast.expr | None:
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "backward":
        return None
    if call.args and isinstance(call.func.value, (ast.Name, ast.Attribute)):
        return call.args[0]  # accelerator.backward(loss)
    owner = call.func.value
    if (
        isinstance(owner, ast.Call)
        and isinstance(owner.func, ast.Attribute)
        and owner.func.attr == "scale"
        and owner.args
    ):
        return owner.args[0]
    return owner


def _clears(node: ast.stmt) -> bool:
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("zero_grad", "train")
