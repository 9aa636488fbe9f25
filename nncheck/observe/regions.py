"""What stands at a line of source: the class, constructor or call that begins there, from its first character to its last."""

from __future__ import annotations

import ast
import linecache
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_HEAD = re.compile(r"\s*(?:async\s+)?(?:class|def)\s+(\w+)")
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, kw_only=True)
class Region:
    """From `column` of the line asked for to before `end_column` of `end_line`. Characters, not bytes; all count from 1."""

    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file's lines (the very list that linecache holds), and its statements by the lines on which something of theirs begins."""

    lines: list[str]
    statements: dict[int, list[ast.stmt]]


_sources: dict[str, _Source] = {}


def region_of(file: str, line: int) -> Region | None:
    """The name of the class or function defined on a line; else the outermost call, or the value that an assignment or
    `return` gives, that begins there, to its end; else the statement. None where the file has no such line.
    """
    lines = linecache.getlines(file)
    if not 0 < line <= len(lines) or not lines[line - 1].strip():
        return None
    source = _sources.get(file)
    if source is None or source.lines is not lines:  # linecache has read the file anew
        source = _sources[file] = _Source(lines=lines, statements=_statements(lines))
    return _within(source, line) or _text(lines[line - 1], line)


def _statements(lines: list[str]) -> dict[int, list[ast.stmt]]:
    """The statements by each of the lines of their own, bodies apart; outer ones first. Empty if the file is no Python."""
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[int, list[ast.stmt]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            for line in {node.lineno, *(part.lineno for part in _expressions(node))}:
                found.setdefault(line, []).append(node)
    return found


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a statement that give a value, outermost first, without those of the statements inside it."""
    queue: deque[ast.AST] = deque([node])
    while queue:
        for child in ast.iter_child_nodes(queue.popleft()):
            if isinstance(child, ast.stmt) or isinstance(getattr(child, "ctx", None), ast.Store):
                continue
            if isinstance(child, ast.expr):
                yield child
            queue.append(child)


def _within(source: _Source, line: int) -> Region | None:
    statements = source.statements.get(line, [])
    head = _HEAD.match(source.lines[line - 1])
    if head is not None and any(isinstance(s, _DEFINITIONS) and s.lineno == line for s in statements):
        return Region(column=head.start(1) + 1, end_line=line, end_column=head.end(1) + 1)
    for statement in reversed(statements):
        value = getattr(statement, "value", None)
        if isinstance(value, ast.expr) and value.lineno == line:
            return _of(value, source)
        begun = [e for e in _expressions(statement) if e.lineno == line]
        call = next((e for e in begun if isinstance(e, ast.Call)), None)
        if call is not None or begun:
            return _of(call or begun[0], source)
        if not hasattr(statement, "body"):
            return _of(statement, source)
    return None


def _of(node: ast.expr | ast.stmt, source: _Source) -> Region | None:
    if node.end_lineno is None or node.end_col_offset is None:
        return None
    first, last = source.lines[node.lineno - 1], source.lines[node.end_lineno - 1]
    return Region(
        column=_characters(first, node.col_offset) + 1,
        end_line=node.end_lineno,
        end_column=_characters(last, node.end_col_offset) + 1,
    )


def _characters(text: str, offset: int) -> int:
    """How many characters the first `offset` bytes of a line are, as ast counts."""
    return len(text.encode("utf-8", "replace")[:offset].decode("utf-8", "replace"))


def _text(text: str, line: int) -> Region:
    """The line without the white space around it."""
    return Region(column=len(text) - len(text.lstrip()) + 1, end_line=line, end_column=len(text.rstrip()) + 1)
