"""Files that a library writes by code of its own, past Python's `open`: their paths are led into the overlay at its entrances."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nncheck.capture.overlay import Overlay
from nncheck.lab.interception import Patches


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """A function or class of a module that is given a file's path.

    position, keyword: where the path stands. writes: whether it may write there; whole: what was there is then gone.
    """

    module: str
    name: str
    position: int
    keyword: str
    writes: bool = True
    whole: bool = True


ENTRANCES = (
    Entrance(module="sqlite3", name="connect", position=0, keyword="database", whole=False),
    Entrance(module="sqlite3.dbapi2", name="connect", position=0, keyword="database", whole=False),
    Entrance(module="safetensors.torch", name="serialize_file", position=1, keyword="filename"),
    Entrance(module="safetensors.numpy", name="serialize_file", position=1, keyword="filename"),
    Entrance(module="safetensors", name="safe_open", position=0, keyword="filename", writes=False),
    Entrance(module="h5py", name="File", position=0, keyword="name", whole=False),
    Entrance(module="cv2", name="imwrite", position=0, keyword="filename"),
    Entrance(module="soundfile", name="write", position=0, keyword="file"),
    Entrance(module="pyarrow.parquet", name="write_table", position=1, keyword="where"),
)
_LIBRARIES = frozenset(one.module.partition(".")[0] for one in ENTRANCES)


class PastPython:
    """Puts the overlay before these entrances, as soon as the script has their modules. `laid`: whether it lies there now."""

    def __init__(self, overlay: Overlay, patches: Patches, laid: Callable[[], bool]) -> None:
        self._overlay, self._patches, self._laid = overlay, patches, laid
        self._done: set[Entrance] = set()

    def imported(self, name: str) -> None:
        """A module was imported."""
        if name.partition(".")[0] in _LIBRARIES:
            self.look()

    def look(self) -> None:
        """Put the overlay before each entrance that is there by now."""
        for one in ENTRANCES:
            real = getattr(sys.modules.get(one.module), one.name, None)
            if one in self._done or real is None:
                continue
            self._done.add(one)
            led = self._led(one, real)
            if isinstance(real, type) and one.writes:  # others ask whether something is one of these
                self._patches.put(real, "__init__", self._led(one, vars(real)["__init__"], after=1))
                continue
            for module in list(sys.modules.values()):  # some hold it under its name since they were imported
                if isinstance(getattr(module, "__dict__", None), dict) and vars(module).get(one.name) is real:
                    self._patches.put(module, one.name, led)

    def _led(self, one: Entrance, real: Callable[..., Any], *, after: int = 0) -> Callable[..., Any]:
        at = one.position + after

        def led(*args: Any, **kwargs: Any) -> Any:
            if not self._laid():
                return real(*args, **kwargs)
            if len(args) > at:
                args = (*args[:at], self._instead(one, args[at]), *args[at + 1 :])
            elif one.keyword in kwargs:
                kwargs[one.keyword] = self._instead(one, kwargs[one.keyword])
            return real(*args, **kwargs)

        return led

    def _instead(self, one: Entrance, path: Any) -> Any:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        if not text or text.startswith((":memory:", "file:")):
            return path  # no file, or not by its path
        if not one.writes:
            return self._overlay.reading(path)
        return self._overlay.writing(path, keep=not one.whole)
