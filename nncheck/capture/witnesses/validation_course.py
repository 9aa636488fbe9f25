"""What a script does with each of its loaders: which it trains on, which it only looks at, and under which names."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nncheck.capture.witnesses.variables import tree_of, users_frames
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.indices import drawn_indices, length_of
from nncheck.observe.source import place_at
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class LoaderCourse:
    """One loader. variables: the names it is bound to. functions, targets: when it was looked at, the functions it was iterated
    in, and the names that what these returned was to be bound to. loop: where it was iterated; made: where it was made.

    first: whether the first step was taken on it. steps: optimizer steps between its batches. alone: batches of which each was
    followed by a step of the script's first optimizer before its own next batch, with no other loader's in between.
    calls: calls of models with its batches; evaluating: of these, in eval mode; free: of these, without gradients.
    looks: times that it was gone through, batches given to a model, without any step or backward pass.
    same: "loader", "data set" or "equal data set" if it draws from what a loader that is trained on draws from; share: how many of
    its items are drawn there too; -1 where that is not known. validates: a library looked at it in its validation.
    """

    variables: tuple[str, ...]
    functions: tuple[str, ...]
    targets: tuple[str, ...]
    loop: Place
    made: Place | None
    first: bool
    steps: int
    alone: int
    calls: int
    evaluating: int
    free: int
    looks: int
    same: str
    share: float
    validates: bool = False


@dataclass(frozen=True, kw_only=True)
class ValidationCourse:
    """loaders: those that were iterated over, in order. unused: variables that hold a loader which no line of the script asks for
    anything, each with the line that made it."""

    loaders: tuple[LoaderCourse, ...]
    unused: tuple[Place, ...]


@dataclass
class _Seen:
    loader: Any
    loop: Place
    variables: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)
    now: tuple[Place, set[str], set[str]] = field(default_factory=lambda: (Place(name="loop"), set(), set()))
    counts: Counter[str] = field(default_factory=Counter)
    given: bool = False
    called: int = 0
    learned: int = 0


class ValidationWitness(Witness):
    """Says of each step and each call of a model whose batch came last."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._loaders: dict[int, _Seen] = {}
        self._last: _Seen | None = None
        self._stepped = False
        self._unused: dict[str, Place] = {}

    def begin(self) -> None:
        if self.course.loader is not None:
            self._last = self._met(self.course.loader)
            self._last.given = True
        for frame in users_frames():
            for name, loader in _loaders_of(frame):
                if "." not in name and not is_asked(frame.f_code.co_filename, name):
                    made = self.course.made.get(id(loader))
                    self._unused[name] = place_at(name, made.file if made else None, made.line if made else None)

    def loader_begun(self, loader: Any) -> None:
        seen = self._met(loader)
        seen.given, seen.called, seen.learned = False, 0, 0

    def batch(self, loader: Any, batch: Any) -> None:
        seen = self._loaders.get(id(loader)) or self._met(loader)
        if self._stepped and self._last is seen and seen.given:
            seen.counts["alone"] += 1
        self._last, self._stepped, seen.given = seen, False, True

    def loader_over(self, loader: Any) -> None:
        seen = self._loaders.get(id(loader))
        if seen is None:
            return
        if self._stepped and self._last is seen:
            seen.counts["alone"] += 1
        if seen.called and not seen.learned:
            seen.counts["looks"] += 1
            seen.counts["validations"] += self.course.validating
            seen.loop, functions, targets = seen.now
            seen.functions |= functions
            seen.targets |= targets
        seen.given, self._stepped = False, False

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._last is None or next(module.parameters(), None) is None:
            return
        self._last.called += 1
        self._last.counts["calls"] += 1
        self._last.counts["evaluating"] += not module.training
        self._last.counts["free"] += not self.course.training

    def backward(self, loss: Tensor) -> None:
        if self._last is not None:
            self._last.learned += 1

    def step(self, optimizer: Any) -> None:
        self._stepped = self._stepped or optimizer is self.course.optimizer
        for seen in self._loaders.values():
            if seen.given:
                seen.learned += 1
                seen.counts["steps"] += 1

    def evidence(self) -> ValidationCourse:
        trained = [seen.loader for seen in self._loaders.values() if seen.counts["steps"]]
        return ValidationCourse(
            loaders=tuple(self._told(seen, trained) for seen in self._loaders.values()),
            unused=tuple(self._unused.values()),
        )

    def _met(self, loader: Any) -> _Seen:
        frames = list(users_frames())
        here = frames[0] if frames else None
        loop = place_at("loop", here.f_code.co_filename if here else None, here.f_lineno if here else None)
        seen = self._loaders.setdefault(id(loader), _Seen(loader=loader, loop=loop))
        for frame in frames:
            seen.variables |= {name for name, held in _loaders_of(frame) if held is loader}
        # The innermost frame holds the loop itself.
        targets = {name for frame in frames[1:] for name in _targets(frame)}
        seen.now = (loop, {f.f_code.co_name for f in frames if f.f_code.co_name != "<module>"}, targets)
        return seen

    def _told(self, seen: _Seen, trained: list[Any]) -> LoaderCourse:
        same, share = "", -1.0
        for loader in trained:
            what, part = _shared(seen.loader, loader)
            if part > share:
                same, share = what, part
        return LoaderCourse(
            variables=tuple(sorted(seen.variables)),
            functions=tuple(sorted(seen.functions)),
            targets=tuple(sorted(seen.targets)),
            loop=seen.loop,
            made=self.course.made.get(id(seen.loader)),
            first=seen.loader is self.course.loader,
            steps=seen.counts["steps"],
            alone=seen.counts["alone"],
            calls=seen.counts["calls"],
            evaluating=seen.counts["evaluating"],
            free=seen.counts["free"],
            looks=seen.counts["looks"],
            same=same,
            share=share,
            validates=bool(seen.counts["validations"]),
        )


def _loaders_of(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """The loaders that a frame's names and the attributes of its objects hold."""
    for scope in (frame.f_locals, frame.f_globals):
        for name, value in list(scope.items()):
            if isinstance(value, DataLoader):
                yield name, value
            elif isinstance(value, dict) and len(value) < 50 and not name.startswith("__"):
                yield from (
                    (f"{name}.{key}", held) for key, held in list(value.items()) if isinstance(held, DataLoader)
                )
            elif hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)) and not callable(value):
                yield from (
                    (f"{name}.{key}", held) for key, held in list(vars(value).items()) if isinstance(held, DataLoader)
                )


def _targets(frame: FrameType) -> Iterator[str]:
    """The names to which the statement that a frame is at binds what it computes."""
    for node in ast.walk(tree_of(frame.f_code.co_filename)):
        if isinstance(node, ast.Assign) and node.lineno <= frame.f_lineno <= (node.end_lineno or node.lineno):
            for target in node.targets:
                yield from (ast.unparse(n) for n in ast.walk(target) if isinstance(n, (ast.Name, ast.Attribute)))


def is_asked(file: str, name: str) -> bool:
    """Whether a line of a file uses what a name holds for more than its length or its parts."""
    tree = tree_of(file)
    parts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    parts |= {
        id(n.args[0])
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ("len", "print") and n.args
    }
    loads = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
    return any(id(n) not in parts for n in loads)


def _shared(one: Any, other: Any) -> tuple[str, float]:
    """Whether a loader draws from another one's data, and the share of its items that the other draws too; -1: not known."""
    if one is other:
        return "loader", 1.0
    try:
        mine, theirs = drawn_indices(one), drawn_indices(other)
    except Exception:  # noqa: BLE001  # the user's sampler may raise anything
        return "", -1.0
    if mine is None or theirs is None or not mine.drawn:
        return "", -1.0
    if mine.base is not theirs.base and not _equal(mine.base, theirs.base):
        return "", 0.0
    items = set(mine.drawn)
    return "data set" if mine.base is theirs.base else "equal data set", len(items & set(theirs.drawn)) / len(items)


def _equal(one: Any, other: Any) -> bool:
    """Whether two data sets of one class hold the same entry for each item, and were made with the same options."""
    length = length_of(one)
    if type(one) is not type(other) or not length or length != length_of(other) or not hasattr(one, "__dict__"):
        return False
    mine, theirs = vars(one), vars(other)
    if mine.keys() != theirs.keys():
        return False
    held = False
    for name, value in mine.items():
        same = _same_entries(value, theirs[name], length)
        if same is False:
            return False
        held = held or bool(same)
    return held


def _same_entries(one: Any, other: Any, length: int) -> bool | None:
    """Whether two attributes are equal; None for those that hold neither the items nor an option."""
    if isinstance(one, (str, bool, int, float)):
        return None if one == other else False
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) < 16:
        parts = [_same_entries(a, b, length) for a, b in itertools.zip_longest(one, other)]
        return False if False in parts else (True if True in parts else None)
    if type(one) is not type(other) or length_of(one) != length:
        return None
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list):
        if isinstance(one[0], (Tensor, np.ndarray)):
            return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))
        return repr(one) == repr(other)
    return None
