"""The user's loop statement, run again as it is written: from the variables it had, an iteration at a time.

A script's loop cannot be rewound, but its source can be compiled once more under the same file and line numbers. What runs is
the user's own code, every error and every layer's call points to the user's line, and nothing remembers the run before but the
objects themselves.
"""

from __future__ import annotations

import ast
import copy
import gc
import linecache
import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from nncheck.capture.record import Stood
from nncheck.observe.source import shown

_ONCE = "_nncheck_once"
Loop = ast.For | ast.While


def common_loop(begun: Sequence[Stood], *others: Sequence[Stood]) -> SourceLoop | None:
    """The innermost loop that went round `begun` and each of `others`: the stacks of a batch's request, a backward pass, a step.

    Without a loop around them, the statements from the one to the other are taken as a loop's body. None if there is no source.
    """
    found = [{id(stood.frame): stood for stood in stack} for stack in others]
    shared = [stood for stood in begun if all(id(stood.frame) in stack for stack in found)]
    for stood in shared:
        lines = {stood.line, *(stack[id(stood.frame)].line for stack in found)}
        owner = owner_of(stood.frame.f_code)
        loop = None if owner is None else _innermost(owner.body, lines)
        if owner is not None and loop is not None:
            return SourceLoop(stood, owner, loop)
    return common_stretch(begun, *others)


def common_stretch(begun: Sequence[Stood], *others: Sequence[Stood]) -> SourceLoop | None:
    """The statements from `begun` to the last of `others` in the innermost frame that they share, as a loop's body."""
    found = [{id(stood.frame): stood for stood in stack} for stack in others]
    stood = next((s for s in begun if all(id(s.frame) in stack for stack in found)), None)
    if stood is None:
        return None
    lines = {stood.line, *(stack[id(stood.frame)].line for stack in found)}
    owner = owner_of(stood.frame.f_code)
    body = None if owner is None else _stretch(owner.body, lines)
    return SourceLoop(stood, owner, _around(body), is_loop=False) if body else None


class SourceLoop:
    """A loop statement with the variables that were there when it was left. `line`, `last_line`: where it stands in its file.

    is_loop: whether the user wrote it as one, and not only the statements of a single round.
    """

    def __init__(self, stood: Stood, owner: Any, loop: Loop, *, is_loop: bool = True) -> None:
        self.is_loop = is_loop
        self._head = (loop.lineno, loop.iter.end_lineno or loop.lineno) if isinstance(loop, ast.For) else None
        self.frame, self.statement = stood.frame, loop
        self._names = stood.names
        self.file = stood.frame.f_code.co_filename
        self.line, self.last_line = loop.lineno, loop.end_lineno or loop.lineno
        self.body = loop.body
        self._function, self._parameters, self._cells = _compiled(stood, owner, loop)
        self._module_level = stood.frame.f_locals is stood.frame.f_globals

    @property
    def where(self) -> str:
        """What it is and where it stands, for people."""
        return f"its own loop ({shown(self.file)}:{self.line}-{self.last_line})"

    def in_head(self, stack: Sequence[Stood]) -> bool:
        """Whether a stack stands in the first line of this `for`, where it takes its next item."""
        lines = [stood.line for stood in stack if stood.frame is self.frame]
        return self._head is not None and any(self._head[0] <= line <= self._head[1] for line in lines)

    def begin(self) -> Iterator[None]:
        """The loop from the variables it had; each `next` runs one iteration. Raises whatever the user's lines raise."""
        self.reset()
        run: Iterator[None] = self._function(**{name: self._names[name] for name in self._parameters})
        return run

    def reset(self) -> None:
        """Variables that outlive the loop as they were: a module's, and those that functions inside share."""
        if self._module_level:
            present = self.frame.f_globals
            for name in [n for n in present if n not in self._names]:
                del present[name]
            present.update(self._names)
        for name, cell in self._cells.items():
            if name in self._names:
                cell.cell_contents = self._names[name]


@cache
def tree_of(file: str) -> ast.Module | None:
    """A source file's syntax tree; None if it is not there, or is no Python."""
    try:
        return ast.parse("".join(linecache.getlines(file)), filename=file)
    except (SyntaxError, ValueError):
        return None


def owner_of(code: types.CodeType) -> Any:
    """The function, or the module, that a code object was compiled from."""
    tree = tree_of(code.co_filename)
    if tree is None or not tree.body or code.co_name == "<module>":
        return tree if tree is not None and tree.body else None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def _statements(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Every block of statements that runs in the same frame, outer ones first."""
    yield body
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if isinstance(inner, list) and inner and isinstance(inner[0], ast.stmt):
                yield from _statements(inner)
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from _statements(part.body)


def covers(node: ast.stmt, line: int) -> bool:
    """Whether a statement stands on a line."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _innermost(body: list[ast.stmt], lines: set[int]) -> Loop | None:
    found = None
    for block in _statements(body):
        for node in block:
            if isinstance(node, (ast.For, ast.While)) and all(covers(node, line) for line in lines):
                found = node
    return found


def _stretch(body: list[ast.stmt], lines: set[int]) -> list[ast.stmt]:
    """The statements of the innermost block in which all lines lie, from the first of them to the last."""
    best: list[ast.stmt] = []
    for block in _statements(body):
        at = [next((i for i, node in enumerate(block) if covers(node, line)), None) for line in lines]
        known = [i for i in at if i is not None]
        if len(known) == len(at):
            best = block[min(known) : max(known) + 1]
    return best


def _around(body: list[ast.stmt]) -> Loop:
    loop = ast.While(test=ast.Constant(value=True), body=body, orelse=[])
    loop.lineno, loop.col_offset = body[0].lineno, body[0].col_offset
    loop.end_lineno, loop.end_col_offset = body[-1].end_lineno, body[-1].end_col_offset
    return loop


class _Plain(ast.NodeTransformer):
    """Takes out what a copy of a loop cannot hold: a generator's `yield`, and annotations of what becomes a global name."""

    def visit_Yield(self, node: ast.Yield) -> ast.AST:
        self.generic_visit(node)
        return node.value or ast.copy_location(ast.Constant(value=None), node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        self.generic_visit(node)
        made = ast.Call(func=ast.Name(id="list", ctx=ast.Load()), args=[node.value], keywords=[])
        return ast.copy_location(made, node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)

    def visit(self, node: ast.AST) -> Any:
        inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        return node if isinstance(node, inner) else super().visit(node)


def _compiled(stood: Stood, owner: Any, loop: Loop) -> tuple[Any, list[str], dict[str, types.CellType]]:
    """The loop as a generator function, one iteration a `yield`; the names of its parameters; the cells it shares."""
    code = stood.frame.f_code
    turned = _Plain().visit(copy.deepcopy(loop))
    once = ast.For(
        target=ast.Name(id=_ONCE, ctx=ast.Store()), iter=ast.Tuple(elts=[ast.Constant(value=None)], ctx=ast.Load()),
        body=turned.body, orelse=[],
    )  # fmt: skip
    # `continue` and `break` end the inner loop, of one round: both end the iteration and no more.
    turned.body, turned.orelse = [once, ast.Expr(value=ast.Yield(value=None))], []
    module_level = stood.frame.f_locals is stood.frame.f_globals
    used = {n.id for n in ast.walk(turned) if isinstance(n, ast.Name)}
    shared = {} if module_level else _cells(stood, used)
    declared = {n for node in ast.walk(owner) if isinstance(node, ast.Global) for n in node.names}
    globals_ = sorted(_stored(turned.body) | _stored([turned])) if module_level else sorted(declared)
    parameters = [] if module_level else [
        n for n in stood.names if n.isidentifier() and n not in declared and n not in shared and n != "__class__"
    ]  # fmt: skip
    head = [f"global {', '.join(globals_)}"] if globals_ else []
    head += [f"nonlocal {', '.join(sorted(shared))}"] if shared else []
    lines = [f"def loop({', '.join(parameters)}):", *("    " + line for line in head), "    pass"]
    if shared:
        lines = [f"def outer({', '.join(sorted(shared))}):", *("    " + line for line in lines)]
    path = code.co_qualname.split(".")
    if len(path) > 1 and path[-2].isidentifier():  # `self.__name` is written out by the compiler with the class's name
        lines = [f"class {path[-2]}:", *("    " + line for line in lines)]
    tree = ast.parse("\n".join(lines))
    place: Any = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "loop")
    place.body[-1] = turned
    ast.fix_missing_locations(tree)
    inner = _code_named(compile(tree, code.co_filename, "exec", dont_inherit=True), "loop")
    inner = inner.replace(co_name=code.co_name, co_qualname=code.co_qualname)
    cells = dict(shared)
    if "__class__" in inner.co_freevars:
        first = next(iter(stood.names.values()))
        kind = first if isinstance(first, type) else type(first)
        cells["__class__"] = types.CellType(next((c for c in kind.__mro__ if c.__name__ == path[-2]), kind))
    made = types.FunctionType(
        inner, stood.frame.f_globals, code.co_name, None, tuple(cells[n] for n in inner.co_freevars) or None
    )
    return made, parameters, shared


def _code_named(code: types.CodeType, name: str) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            return constant if constant.co_name == name else _code_named(constant, name)
    raise LookupError(name)


def _stored(body: list[ast.stmt]) -> set[str]:
    """Names that statements bind in their own frame."""
    found: set[str] = set()
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
            pending += node.decorator_list
            continue
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Global):
            found |= set(node.names)
        pending += ast.iter_child_nodes(node)
    return found - {_ONCE}


def _cells(stood: Stood, used: set[str]) -> dict[str, types.CellType]:
    """The cells of variables that this frame shares with functions made outside the loop."""
    code = stood.frame.f_code
    wanted = used & {*code.co_freevars, *code.co_cellvars}
    functions = [f for f in gc.get_referrers(code) if isinstance(f, types.FunctionType) and f.__code__ is code]
    functions += [f for f in stood.names.values() if isinstance(f, types.FunctionType)]
    found: dict[str, types.CellType] = {}
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if name not in wanted or name in found:
                continue
            try:
                if cell.cell_contents is stood.names.get(name):
                    found[name] = cell
            except ValueError:  # empty: of another call of the same function
                continue
    for name in wanted & set(code.co_freevars):
        if name not in found and name in stood.names:
            found[name] = types.CellType(stood.names[name])
    return found
