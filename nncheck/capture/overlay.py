"""What a script writes once its loop is replayed goes to a scratch folder, and is read back from there."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any


def _busy(method: Callable[..., Any]) -> Callable[..., Any]:
    """What the overlay does to files itself is not for it to lay over."""

    @functools.wraps(method)
    def quietly(self: Any, *args: Any, **kwargs: Any) -> Any:
        before, self.busy = self.busy, True
        try:
            return method(self, *args, **kwargs)
        finally:
            self.busy = before

    return quietly


class Overlay:
    """Files and folders that the script believes to have written, each with the path under which it really lies."""

    def __init__(self) -> None:
        self.busy = False
        self._folder: str | None = None
        self._really: dict[str, str] = {}
        self._gone: set[str] = set()

    def close(self) -> None:
        """Remove the scratch folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        self._really.clear()
        self._gone.clear()

    @_busy
    def reading(self, path: Any) -> Any:
        """The path to read instead."""
        name = _name(path)
        if name is None:
            return path
        if name in self._gone:
            return os.path.join(self._made(), "gone")
        return self._really.get(name, path)

    @_busy
    def writing(self, path: Any, *, keep: bool = False) -> Any:
        """The path to write instead; `keep`: with what is there now, to be changed or added to."""
        name = _name(path)
        if name is None:
            return path
        if name not in self._really:
            self._really[name] = os.path.join(self._made(), f"{len(self._really)}-{os.path.basename(name)}")
            if keep and name not in self._gone and os.path.isfile(name):
                shutil.copyfile(name, self._really[name])
        self._gone.discard(name)
        return self._really[name]

    @_busy
    def make_folder(self, path: Any) -> None:
        """A folder that seems to be there from now on."""
        name = _name(path)
        if name is not None and not os.path.isdir(name) and name not in self._really:
            os.mkdir(self.writing(path))

    @_busy
    def remove(self, path: Any) -> None:
        """A file or folder that seems to be gone."""
        name = _name(path)
        if name is not None:
            self._really.pop(name, None)
            self._gone.add(name)

    @_busy
    def move(self, source: Any, target: Any, *, copy: bool = False) -> None:
        """A file that seems to lie elsewhere, or there as well."""
        with contextlib.suppress(OSError):
            shutil.copyfile(self.reading(source), self.writing(target))
        if not copy:
            self.remove(source)

    def _made(self) -> str:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="nncheck-")
        return self._folder


def _name(path: Any) -> str | None:
    """The absolute path; None for what is not a path, a device for instance, or a file that is open already."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    name = os.path.abspath(os.fsdecode(os.fspath(path)))
    return None if name.startswith(("/dev/", "/proc/")) else name
