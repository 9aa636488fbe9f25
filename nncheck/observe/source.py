"""Whose line it was: the user's frames, and the lines in the user's files where layers, losses and optimizers are made."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from nncheck.observe.regions import region_of
from nncheck.observe.repository import seen_from
from nncheck.verdict import Place

if TYPE_CHECKING:
    from torch import nn

# Functions that call each other in a circle, of which one round is shown.
MAX_CYCLE = 4

_OWN = str(Path(__file__).resolve().parent.parent) + os.sep
_CALLS_OF_THE_SET_UP = [
    (str(Path(__file__).parent.parent / "lab" / "objective.py"), name) for name in ("_run", "_call_model", "call_step")
]


@cache
def _library_folders() -> tuple[str, ...]:
    paths = {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= set(site.getsitepackages()) | {site.getusersitepackages()}
    folders = {str(Path(p).resolve()) + os.sep for p in paths}
    # torch may be installed elsewhere, e.g. in a system directory beside a virtual environment.
    torch_file = getattr(sys.modules.get("torch"), "__file__", None)
    if torch_file:
        folders.add(str(Path(torch_file).resolve().parent) + os.sep)
    return tuple(folders)


@cache
def is_users(file: str) -> bool:
    """Whether a file is the user's: neither Python's, nor an installed package's, nor ours, and it exists."""
    if file.startswith("<") and not file.startswith("<ipython"):
        return False
    others = (_OWN, *_library_folders())
    # Resolving a path asks the file system at each of its folders; most files are a library's under its plain name.
    return not file.startswith(others) and not str(Path(file).resolve()).startswith(others)


def is_ours(file: str) -> bool:
    """Whether a file is nncheck's own."""
    return file.startswith(_OWN)


_shown_from: str | None = None


@contextmanager
def shown_from(folder: str) -> Iterator[None]:
    """Paths are shown as a person in this folder would type them, wherever the user's code goes meanwhile."""
    global _shown_from
    before, _shown_from = _shown_from, folder
    try:
        yield
    finally:
        _shown_from = before


def shown(file: str) -> str:
    """A path as a person would type it: relative to the working directory where that is shorter."""
    try:
        relative = os.path.relpath(file, _shown_from)
    except ValueError:  # another drive
        return file
    return relative if not relative.startswith("..") else file


def _named(file: str) -> str:
    """A source file as a place names it."""
    return file if file.startswith("<") else seen_from(file, _shown_from or os.getcwd())


def line_of(file: str, line: int) -> str | None:
    """The text of a source line, stripped; None if it cannot be read."""
    return linecache.getline(file, line).strip() or None


def place_at(name: str, file: str | None, line: int | None, detail: str = "") -> Place:
    """A `Place` with the path shortened, and the line's text and what of it is meant filled in."""
    if file is None or line is None:
        return Place(name=name, detail=detail)
    place = Place(name=name, file=_named(file), line=line, detail=detail, source=line_of(file, line))
    region = region_of(file, line)
    if region is None:
        return place
    return dataclasses.replace(place, column=region.column, end_line=region.end_line, end_column=region.end_column)


def calling_place(name: str, detail: str = "") -> Place:
    """The innermost frame of the user's on the present stack, inside of what the set-up's objective called."""
    frame: FrameType | None = sys._getframe(1)
    # Beyond the objective's calls are those who called nncheck: a test or a notebook, and no part of the set-up.
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) not in _CALLS_OF_THE_SET_UP:
        if is_users(frame.f_code.co_filename):
            return place_at(name, frame.f_code.co_filename, frame.f_lineno, detail)
        frame = frame.f_back
    return Place(name=name, detail=detail)


def user_frames(error: BaseException) -> tuple[Place, ...]:
    """The user's frames of an exception and its causes, outermost first, as places named by function."""
    places: list[Place] = []
    for frame in traceback.extract_tb(error.__traceback__):
        place = place_at(frame.name, frame.filename, frame.lineno) if is_users(frame.filename) else None
        if place is not None and place not in places[-MAX_CYCLE:]:  # a recursion repeats itself a thousand times
            places.append(place)
    return tuple(places)


def words_of(error: BaseException) -> str:
    """An exception's own text; its class may fail even at that."""
    try:
        return str(error).strip() or "no message"
    except Exception:  # noqa: BLE001  # the user's __str__ may raise anything
        return "no message"


def class_place(module: nn.Module, name: str, detail: str = "") -> Place:
    """Where a module's class is written, if the user wrote it."""
    found = _written(type(module))
    return Place(name=name, detail=detail) if found is None else place_at(name, found[0], found[2], detail)


def _written(kind: type) -> tuple[str, list[str], int] | None:
    """File, lines and first line of a class that the user wrote; None for anybody else's."""
    try:
        file = inspect.getsourcefile(kind)
        if file is None or not is_users(file):  # finding a class in a library's long file takes tens of milliseconds
            return None
        return file, *inspect.getsourcelines(kind)
    except (OSError, TypeError):
        return _written_in_a_cell(kind)


def _written_in_a_cell(kind: type) -> tuple[str, list[str], int] | None:
    """The same for a class of a notebook, whose module has no file: its methods know their cells."""
    for function in vars(kind).values():
        code = getattr(function, "__code__", None)
        if code is None or not is_users(code.co_filename):
            continue
        lines = linecache.getlines(code.co_filename)
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            end = getattr(node, "end_lineno", None) or 0
            if (
                isinstance(node, ast.ClassDef)
                and node.name == kind.__name__
                and node.lineno <= code.co_firstlineno <= end
            ):
                return code.co_filename, lines[node.lineno - 1 : end], node.lineno
    return None


def layer_place(root: nn.Module, name: str, detail: str = "") -> Place:
    """Where the layer called `name` (dotted, as in `named_modules`) is made: the line `self.head = ...` in its
    nearest user-written ancestor; that ancestor's class otherwise.

    For a parameter's name pass the parameter's; its last part may be the assigned attribute itself.
    """
    chain: list[tuple[nn.Module, str]] = []
    module: Any = root
    for part in name.split(".") if name else []:
        chain.append((module, part))
        children = getattr(module, "_modules", {})
        if part not in children:
            break
        module = children[part]
    for depth, (owner, attribute) in reversed(list(enumerate(chain, 1))):
        found = _assignment(type(owner), attribute)  # type: ignore[arg-type]  # classes are hashable
        if found:
            file, start, value = found
            return place_at(name, file, start + _item(value, name.split(".")[depth:]).lineno - 1, detail)
    for owner, _ in reversed(chain):
        place = class_place(owner, name, detail)
        if place.file is not None and is_users(place.file):
            return place
    place = class_place(root, name, detail)
    return place if place.file is None or is_users(place.file) else Place(name=name, detail=detail)


def located(place: Place, fallback: Place | None) -> Place:
    """A place, on another's line if it has none: a layer of a model that is put together outside any class of the user's."""
    if place.file is not None or fallback is None:
        return place
    return dataclasses.replace(fallback, name=place.name, detail=place.detail)


@cache
def _assignment(owner: type, attribute: str) -> tuple[str, int, ast.Assign | ast.AnnAssign] | None:
    """`self.<attribute> = ...` in a user-written class or its user-written bases, its file, and the class's first line there."""
    for kind in owner.__mro__:
        found = _written(kind)
        if found is None:
            continue
        file, lines, start = found
        try:
            tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)) if lines[0][:1].isspace() else "".join(lines))
        except (SyntaxError, IndentationError):
            continue
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if not isinstance(node, (ast.Assign, ast.AnnAssign)):
                continue
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr == attribute:
                    return file, start, node
    return None


def _item(assignment: ast.Assign | ast.AnnAssign, names: list[str]) -> ast.stmt | ast.expr:
    """What makes the layer of this number in `nn.Sequential(...)` or `nn.ModuleList([...])`, and so on inside of it."""
    found: ast.stmt | ast.expr = assignment
    value = assignment.value
    for name in names:
        items = value.args if isinstance(value, ast.Call) else []
        if len(items) == 1 and isinstance(items[0], (ast.List, ast.Tuple)):
            items = items[0].elts
        kind = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
        if kind not in ("Sequential", "ModuleList") or not name.isdigit() or int(name) >= len(items):
            break
        if any(isinstance(item, ast.Starred) for item in items[: int(name) + 1]):
            break
        found = value = items[int(name)]
        if not isinstance(value, ast.Call):
            break
    return found if isinstance(found, (ast.stmt, ast.Call)) else assignment
