"""Whether the graphs of losses that are long over stay alive, how many, and who holds them."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nncheck.capture.witnesses.variables import find_held, find_path, line_that_binds
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.verdict import Place

# The last loss, and the one before where several go back in turn, are bound to their names until the next takes their place.
YOUNG = 2
# So many graphs that should be gone are worth the search for who holds them.
SEARCHED = 5
# Nodes of one graph that are marked; a recurrent network over a thousand steps has more.
MOST_NODES = 4000

_MARK = "nncheck.pass"


@dataclass(frozen=True, kw_only=True)
class KeptGraphs:
    """alive: before each backward pass and at the end of each epoch, how many of the passes before the last two still had nodes of
    their graph alive; epochs: the epoch each of these belongs to; passes: how many backward passes there were by then.

    nodes: nodes alive of the graphs kept when the search was made, of `graphs`; bytes: what they had saved for a backward pass.
    holder: the user's line that keeps them, named by the variable; None if it is not known.
    """

    alive: tuple[int, ...]
    epochs: tuple[int, ...]
    passes: tuple[int, ...]
    graphs: int
    nodes: int
    bytes: int
    holder: Place | None


class _Pass:
    """Held by every node of one pass's graph: it lives as long as one of them does."""

    def __init__(self, number: int) -> None:
        self.number = number


class GraphWitness(Witness):
    """Marks the nodes of every graph that goes back, and looks later which marks are still there.

    The nodes themselves: a Python loss may be gone while `total += loss` holds its graph.
    """

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._passes: list[weakref.ref[_Pass]] = []
        self._alive: list[int] = []
        self._epochs: list[int] = []
        self._counts: list[int] = []
        self._found: tuple[int, int, int] = (0, 0, 0)
        self._holder: Place | None = None
        self._searched_at = SEARCHED

    def backward(self, loss: Tensor) -> None:
        self._count()
        number = len(self._passes)
        mark = _Pass(number)
        self._passes.append(weakref.ref(mark))
        for node in _nodes(loss):
            # The first graph that a node was part of is its own: what a second pass reaches of it is what was kept.
            node.metadata.setdefault(_MARK, mark)

    def loader_over(self, loader: Any) -> None:
        if loader is self.course.loader:
            self._count()

    def evidence(self) -> KeptGraphs:
        graphs, nodes, size = self._found
        return KeptGraphs(
            alive=tuple(self._alive),
            epochs=tuple(self._epochs),
            passes=tuple(self._counts),
            graphs=graphs,
            nodes=nodes,
            bytes=size,
            holder=self._holder,
        )

    def _old(self) -> list[_Pass]:
        return [mark for ref in self._passes[:-YOUNG] if (mark := ref()) is not None]

    def _count(self) -> None:
        old = len(self._old())
        if old >= self._searched_at:
            gc.collect()  # a circle of references is not held by anybody
            marks = self._old()
            old = len(marks)
            if old >= self._searched_at:
                self._searched_at = 2 * old
                self._search(marks)
        self._alive.append(old)
        self._epochs.append(self.course.epochs)
        self._counts.append(len(self._passes))

    def _search(self, marks: list[_Pass]) -> None:
        # Of each mark: one reference is this list's, one the argument's of getrefcount; the others are nodes'.
        nodes = sum(sys.getrefcount(marks[i]) - 2 for i in range(len(marks)))
        numbers = {mark.number for mark in marks}
        held: dict[int, set[int]] = {}
        saved: dict[int, int] = {}
        for tensor in gc.get_objects():
            if issubclass(type(tensor), Tensor) and not tensor.is_leaf:
                reached = _reached(tensor, numbers, saved)
                if reached:
                    held[id(tensor)] = reached
        self._found = (len(marks), nodes, sum(saved.values()))
        if (
            self._holder is None
        ):  # the first time it is where the loop put it, not yet where its function returned it to
            most = max((len(reached) for reached in held.values()), default=0)
            # A running sum reaches every one of them; a list's losses reach one each.
            wanted = {id for id, reached in held.items() if len(reached) == most}
            path = find_path(lambda value: id(value) in wanted)
            if path is not None:
                self._holder = line_that_binds(*path)
            else:
                library = self.course.library
                objects = [self.course.model] if library is None else library.held
                self._holder = find_held(lambda value: id(value) in wanted, objects)


def _nodes(tensor: Tensor) -> Iterator[Any]:
    """The nodes of a graph but for its leaves, the nearest first; not beyond those that an earlier pass has marked."""
    begin = tensor.grad_fn
    if begin is None:
        return
    seen, waiting, at = {begin}, [begin], 0
    while at < len(waiting) and at < MOST_NODES:
        node: Any = waiting[at]
        at += 1
        if hasattr(node, "variable"):  # a leaf's: it lives as long as its parameter
            continue
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def _reached(tensor: Tensor, numbers: set[int], saved: dict[int, int]) -> set[int]:
    """Which passes' nodes a tensor holds; `saved` takes what these hold of memory, by its address."""
    found = set()
    for node in _nodes(tensor):
        mark = node.metadata.get(_MARK)
        if mark is None or mark.number not in numbers:
            continue
        found.add(mark.number)
        for name in dir(node):
            if name.startswith("_saved_"):
                try:
                    kept = getattr(node, name)
                except RuntimeError:  # the backward pass has freed it
                    continue
                if isinstance(kept, Tensor) and not (kept.is_leaf and kept.requires_grad):
                    saved[kept.data_ptr()] = kept.numel() * kept.element_size()
    return found
