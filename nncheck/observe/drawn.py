"""Whether a line of the user's code gives an attribute random numbers: drawn on it, or in a local variable before it."""

from __future__ import annotations

import ast
import linecache
import re

from nncheck.verdict import Place

_DRAWN = re.compile(
    r"\brand\w*\(|\bnormal_?\(|uniform_?\(|bernoulli|orthogonal_\(|kaiming_\w+\(|xavier_\w+\(|trunc_normal_\(|\.(permutation|choice)\("
)
_SEEDED = re.compile(r"generator|default_rng\(\d|RandomState\(\d|manual_seed\(")
# Of a random tensor these give nothing random.
_SHAPE = {"shape", "size", "numel", "dim", "ndim", "dtype", "device", "len"}


def drawn_at(place: Place) -> bool:
    """Whether the value set on this line is drawn without a generator or seed of its own.

    Locals of the same function that the line reads are followed back to their last assignment above it.
    """
    if not place.source:
        return False
    lines = [place.source, *_before(place)]
    return any(map(_DRAWN.search, lines)) and not any(map(_SEEDED.search, lines))


def _before(place: Place) -> list[str]:
    """The source of the assignments that a line's value comes from, within its function."""
    if place.file is None or place.line is None:
        return []
    try:
        tree = ast.parse("".join(linecache.getlines(place.file)))
    except SyntaxError:
        return []
    function = _innermost(tree, place.line)
    if function is None:
        return []
    assigned = [
        (node, target.id)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and node.end_lineno is not None and node.end_lineno < place.line
    ]
    line = next((n for n in ast.walk(function) if isinstance(n, ast.stmt) and n.lineno == place.line), None)
    found: list[str] = []
    wanted = _names(line) if line is not None and line is not function else set()
    for node, name in sorted(assigned, key=lambda pair: -pair[0].lineno):
        if name in wanted:
            wanted = (wanted - {name}) | _names(node.value)
            found.append(ast.unparse(node.value))
    # A seed set in the function above the line makes the numbers the same in every model.
    seeds = [n for n in ast.walk(function) if isinstance(n, ast.Call) and n.lineno < place.line]
    return found + [text for node in seeds if "manual_seed(" in (text := ast.unparse(node.func) + "(")]


def _innermost(tree: ast.AST, line: int) -> ast.AST | None:
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def _names(node: ast.AST) -> set[str]:
    """Variables whose numbers an expression takes: not those of which it asks the shape only."""
    shape = isinstance(node, ast.Attribute) and node.attr in _SHAPE
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        shape = name in _SHAPE or (name.endswith("_like") and not name.startswith("rand"))
    if shape:
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    return {name for inner in ast.iter_child_nodes(node) for name in _names(inner)}
