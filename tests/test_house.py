"""The rules of the house, read from the source: imports go one way, and a check is one file with five headings."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nncheck
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import HEADINGS, catalogue, load, needs_of, probe_of, slug_to_name
from nncheck.verdict import Stage

PACKAGE = Path(nncheck.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# What a file may never import, not even late: the part of the package or library on the right.
FORBIDDEN = {
    "exhibits.py": r"nncheck|torch|numpy",
    "verdict.py": r"(?!nncheck\.(report|errors|exhibits))nncheck|torch|numpy|rich|typer|jinja2",
    "errors.py": r"nncheck\.(?!verdict)|torch",
    "registry.py": r"torch|numpy|nncheck\.(?!verdict|errors|probes|checks)",
    "config/*.py": r"torch|numpy|rich|typer|jinja2|nncheck\.(cli|runner|api|target|process|checks|probes|report|lab|gate)",
    "gate/rules.py": r"torch|numpy|rich|typer|jinja2|nncheck\.(cli|runner|api|target|process|checks|probes|lab)",
    "report/*.py": r"torch|typer|nncheck\.(?!verdict|report|_version)",
    "report/*/*.py": r"torch|typer|nncheck\.(?!verdict|report|_version)",
    "checks/*/*.py": r"torch|numpy|rich|typer|nncheck\.(cli|runner|api|target|process|report|lab|observe\.watch)",
    "probes/*.py": r"rich|typer|matplotlib|nncheck\.(cli|runner|api|target|process|checks|report)",
    "lab/*.py": r"nncheck\.(cli|runner|api|target|process|checks|probes|report|evidence)",
    "observe/*.py": r"nncheck\.(cli|runner|api|target|process|checks|probes|report|evidence)",
    "losses/*.py": r"nncheck\.(cli|runner|api|target|process|checks|probes|report|evidence)",
    "survey/*.py": r"nncheck\.(cli|runner|api|target|process|checks|probes|report|evidence)",
    "target/*.py": r"nncheck\.(cli|runner|api|process|checks|probes|report|lab\.sandbox|evidence)",
    "runner.py": r"nncheck\.(cli|api|target|process|report)",
    "cli/*.py": r"torch|numpy|matplotlib|jinja2",
    # Their source becomes `reproduce.py`, which has torch and nothing of ours.
    "reproduce/[!_bc]*.py": r"numpy|nncheck\.(?!reproduce)",
    "reproduce/compose.py": r"torch|numpy|nncheck\.(?!verdict)",
}

# Imported before anything else happens, by `nncheck --version`, `list` and `explain`: these import torch nowhere at all, or
# only inside functions that `run` calls.
TORCH_FREE_AT_THE_TOP = (
    "verdict.py", "errors.py", "registry.py", "recipe.py", "cli/__init__.py", "observe/source.py", "process/session.py",
    "process/supervisor.py", "process/start.py", "process/book.py", "process/nursery.py", "process/prints.py", "process/kept.py",
    "process/plain.py", "gate/cache.py", "gate/recorder.py",
    "lab/deadline.py", "target/lightning.py",
)  # fmt: skip


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_imports_go_one_way(pattern: str) -> None:
    files = list(PACKAGE.glob(pattern))
    assert files
    for path in files:
        bad = [name for name in _imports(path) if re.match(rf"({FORBIDDEN[pattern]})(\.|$|\b)", name)]
        assert not bad, f"{path.relative_to(PACKAGE)} imports {bad}"


@pytest.mark.parametrize("name", TORCH_FREE_AT_THE_TOP)
def test_torch_is_imported_late(name: str) -> None:
    assert not {
        n for n in _imports(PACKAGE / name, top_only=True) if n.split(".")[0] in ("torch", "numpy", "matplotlib")
    }


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= 400, "split it by purpose"
    assert ast.get_docstring(tree), "a file says what it is for"
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is None]
    assert not re.search(r"\bTODO\b|\bFIXME\b|\bXXX\b", text)


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.id)
def test_a_check_is_one_file_with_five_headings(entry) -> None:  # type: ignore[no-untyped-def]
    name = slug_to_name(entry.id)
    tree = ast.parse(entry.path.read_text(encoding="utf-8"))
    checks = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and "check(" in map_source(n.decorator_list)]
    assert checks == [name]
    assert entry.path.parent.name == entry.stage
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.id)
    assert not entry.id.startswith("no-")
    heads = [line for line in (ast.get_docstring(tree) or "").splitlines() if line in HEADINGS]
    assert heads == list(HEADINGS)
    assert entry.doc.title.endswith(".")
    assert len(entry.doc.title) < 100


def map_source(nodes: list[ast.expr]) -> str:
    return " ".join(map(ast.unparse, nodes))


def test_ids_that_are_named_exist_and_form_no_circle() -> None:
    entries = {entry.id: entry for entry in catalogue()}
    for entry in entries.values():
        unknown = [id for id in (*entry.after, *entry.consequence_of) if id not in entries]
        assert not unknown, f"{entry.id} names {unknown}"
        later = [id for id in entry.after if list(Stage).index(entries[id].stage) > list(Stage).index(entry.stage)]
        assert not later, f"{entry.id} waits for {later}, which are asked later"
    TopologicalSorter({e.id: e.consequence_of for e in entries.values()}).prepare()
    TopologicalSorter({e.id: e.after for e in entries.values()}).prepare()


def test_every_check_function_is_tested_by_itself() -> None:
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    missing = [
        e.id
        for e in catalogue()
        if not any(re.search(rf"\.{slug_to_name(e.id)} import [^\n]*\b{slug_to_name(e.id)}\b", t) for t in tests)
    ]
    assert not missing


def test_evidence_is_plain_and_each_kind_has_one_probe() -> None:
    import dataclasses
    import typing

    import torch

    for check in load():
        for kind in check.needs:
            if kind is Sandbox:
                raise AssertionError(f"{check.entry.id} measures by itself")
            function = probe_of(kind)
            assert dataclasses.is_dataclass(kind)
            assert kind.__dataclass_params__.frozen
            for name, hint in typing.get_type_hints(kind).items():
                assert not _mentions(hint, torch.Tensor), f"{kind.__name__}.{name} holds a tensor"
            # Or it only looks at what others have measured.
            assert needs_of(function)[0] is Sandbox or Sandbox not in needs_of(function)


def _mentions(hint: object, kind: type) -> bool:
    import typing

    return hint is kind or any(_mentions(inner, kind) for inner in typing.get_args(hint))
