"""What a script iterates over instead of its loader's own iterator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nncheck.capture.script import Script

# A loader that only the replayed part of an iteration asks (a validation every so often) is short: its results do not matter.
OTHER_BATCHES = 2

_NEVER = object()


class Tap:
    """The iterator of one of the script's loaders. When its loop is replayed, it gives what it is handed."""

    def __init__(self, script: Script, loader: Any, iterator: Iterator[Any]) -> None:
        self.loader = loader
        self._script, self._iterator = script, iterator
        self._given = 0
        self.onward, self.over = 0, False
        """While the script goes on: how many batches it has given then, and whether it has come to its end or was ended early."""

    def __iter__(self) -> Tap:
        return self

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __next__(self) -> Any:
        script = self._script
        if script.iterating:
            return next(self._iterator)
        if script.mode == "record":
            request = script.asked(self.loader)
            batch = self._own()
            script.given(request, batch)
            return batch
        if script.mode == "onward":
            return script.watcher.next(self, iter(self._own, _NEVER))
        if script.mode != "replay":
            return next(self._iterator)
        known = script.beside
        if id(self.loader) in known and (self.loader is not script.source or script.handed is not None):
            if id(self.loader) in script.random:
                script.random[id(self.loader)].restore()
            if self.loader is script.source:
                script.hand_over()
                return script.handed
            return known[id(self.loader)]  # a second loader of the same loop: what it gave beside the first batch
        self._given += 1
        if self._given > OTHER_BATCHES:
            raise StopIteration
        return self._own()

    def _own(self) -> Any:
        """What the loader itself gives next: a loader that it takes from is its own affair."""
        script = self._script
        script.iterating = True
        try:
            return next(self._iterator)
        finally:
            script.iterating = False
