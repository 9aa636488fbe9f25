"""Where checks and probes are found: the folders are the registry.

`catalogue()` reads the check files as text, so that `nncheck list` and `explain` need no torch; `load()` imports them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

from nncheck.verdict import CheckResult, Doc, Stage, Status, Verdict

HEADINGS = ("What it does", "Why it matters", "How to fix", "Known limits", "Source")

CheckFunction = Callable[..., Verdict]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a check without importing it.

    `after`: ids whose failure makes this one meaningless, so that it is skipped.
    `consequence_of`: ids whose finding is the likelier root, so that it is listed first.
    `part`: the part of the recipe that a finding without a line of its own is shown at.
    """

    id: str
    stage: Stage
    doc: Doc
    after: tuple[str, ...]
    consequence_of: tuple[str, ...]
    path: Path
    part: str = "model"


@dataclass(frozen=True, kw_only=True)
class Check:
    """An entry with its function; `needs` are the evidence types of its parameters, in order.

    optional: those it can do without (`kind: SomeEvidence | None`): it is given None where they cannot be measured.
    """

    entry: Entry
    function: CheckFunction
    needs: tuple[type, ...]
    optional: frozenset[type] = frozenset()


_probes: dict[type, Callable[..., Any]] = {}


def check(
    *, stage: Stage, after: tuple[str, ...] = (), consequence_of: tuple[str, ...] = (), part: str = "model"
) -> Callable[[CheckFunction], CheckFunction]:
    """Mark the one check function of a file. The arguments are read by `catalogue()`, hence must be literals."""

    def mark(function: CheckFunction) -> CheckFunction:
        return function

    return mark


def probe(function: F) -> F:
    """Mark the function that fills the evidence type it returns. Raises TypeError if that type has a probe already."""
    kind = typing.get_type_hints(function)["return"]
    if kind in _probes and _probes[kind].__module__ != function.__module__:
        raise TypeError(f"{kind.__name__} has a probe already: {_probes[kind].__module__}")
    _probes[kind] = function
    return function


def probe_of(kind: type) -> Callable[..., Any]:
    """The probe that returns `kind`. Raises LookupError if there is none."""
    try:
        return _probes[kind]
    except KeyError:
        raise LookupError(f"no probe returns {kind.__name__}") from None


def needs_of(function: Callable[..., Any]) -> tuple[type, ...]:
    """The types of a probe's or check's parameters, in order; of `X | None` it is X."""
    return tuple(kind for kind, _ in _parameters(function))


def optional_of(function: Callable[..., Any]) -> frozenset[type]:
    """The types that a check can do without."""
    return frozenset(kind for kind, optional in _parameters(function) if optional)


def _parameters(function: Callable[..., Any]) -> list[tuple[type, bool]]:
    hints = typing.get_type_hints(function)
    found = []
    for name in inspect.signature(function).parameters:
        parts = [kind for kind in typing.get_args(hints[name]) if kind is not type(None)]
        optional = len(parts) == 1 and isinstance(hints[name], types.UnionType)
        found.append((parts[0] if optional else hints[name], optional))
    return found


def slug_to_name(id: str) -> str:
    """`loss-at-init` -> `loss_at_init`: check id to file and function name."""
    return id.replace("-", "_")


def parse_doc(text: str) -> Doc:
    """Split a check's docstring at its five headings. Raises ValueError naming the heading that is missing."""
    parts = re.split(rf"^({'|'.join(HEADINGS)})$", inspect.cleandoc(text), flags=re.MULTILINE)
    sections = {head: inspect.cleandoc(body).strip() for head, body in zip(parts[1::2], parts[2::2], strict=True)}
    for heading in HEADINGS:
        if not sections.get(heading):
            raise ValueError(f"the docstring lacks the heading {heading!r}")
    return Doc(
        title=parts[0].strip(),
        what=sections["What it does"],
        why=sections["Why it matters"],
        fix=sections["How to fix"],
        limits=sections["Known limits"],
        source=sections["Source"],
    )


def _read_entry(path: Path) -> Entry:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    function = next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "check" for d in node.decorator_list)
    )
    call = next(d for d in function.decorator_list if isinstance(d, ast.Call))
    keywords = {k.arg: k.value for k in call.keywords}
    stage = keywords["stage"]
    assert isinstance(stage, ast.Attribute)

    def ids(name: str) -> tuple[str, ...]:
        return tuple(ast.literal_eval(keywords[name])) if name in keywords else ()

    return Entry(
        id=path.stem.replace("_", "-"),
        stage=Stage[stage.attr],
        doc=parse_doc(ast.get_docstring(tree) or ""),
        after=ids("after"),
        consequence_of=ids("consequence_of"),
        path=path,
        part=ast.literal_eval(keywords["part"]) if "part" in keywords else "model",
    )


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every check, in the order in which they are asked: by stage, then causes before consequences, then by id."""
    folder = Path(__file__).parent / "checks"
    entries = {e.id: e for e in map(_read_entry, sorted(folder.glob("*/[a-z]*.py")))}
    stages = list(Stage)
    order: list[Entry] = []
    for stage in stages:
        graph = {
            e.id: [a for a in (*e.after, *e.consequence_of) if a in entries and entries[a].stage is stage]
            for e in entries.values()
            if e.stage is stage
        }
        order.extend(entries[id] for id in TopologicalSorter(graph).static_order())
    return tuple(order)


@cache
def load() -> tuple[Check, ...]:
    """Import every check and probe, in catalogue order. This imports torch."""
    import nncheck.probes

    for module in pkgutil.iter_modules(nncheck.probes.__path__):
        importlib.import_module(f"nncheck.probes.{module.name}")
    checks = []
    for entry in catalogue():
        name = slug_to_name(entry.id)
        function = getattr(importlib.import_module(f"nncheck.checks.{entry.stage}.{name}"), name)
        checks.append(Check(entry=entry, function=function, needs=needs_of(function), optional=optional_of(function)))
    return tuple(checks)


def select(names: tuple[str, ...], ignored: tuple[str, ...]) -> frozenset[str]:
    """The ids chosen by ids and stage names. Raises UsageError with a did-you-mean for a name that is neither."""
    from nncheck.errors import UsageError

    known = {e.id: {e.id} for e in catalogue()}
    for stage in Stage:
        known.setdefault(str(stage), set()).update(e.id for e in catalogue() if e.stage is stage)

    def expand(name: str) -> set[str]:
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; `nncheck list` shows them all"
            raise UsageError(f"no check or stage is called {name!r}{hint}")
        return known[name]

    chosen = set().union(*map(expand, names)) if names else {e.id for e in catalogue()}
    left = frozenset(chosen - set().union(*map(expand, ignored)))
    if chosen and not left:
        raise UsageError("no check is left to run: --ignore takes away all that --select names")
    return left


def order_findings(results: Mapping[str, CheckResult]) -> tuple[str, ...]:
    """The ids of the findings in reading order: roots before their consequences, then fails before warnings, then as asked."""
    entries = {entry.id: entry for entry in catalogue()}
    asked = list(results)
    left = [id for id in asked if results[id].is_finding]
    ordered: list[str] = []

    def roots(id: str) -> set[str]:
        usual = {
            root for root in entries[id].consequence_of if root in left and id not in results[root].verdict.follows
        }
        return usual | set(results[id].verdict.follows)

    while left:
        free = [id for id in left if not roots(id) & set(left)] or left
        chosen = min(free, key=lambda id: (results[id].status is not Status.FAIL, asked.index(id)))
        left.remove(chosen)
        ordered.append(chosen)
    return tuple(ordered)
