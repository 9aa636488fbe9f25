"""What a script writes once its loop is replayed goes to a scratch folder, and is read back from there."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakSet


def _busy(method: Callable[..., Any]) -> Callable[..., Any]:
    """What the overlay does to files itself is not for it to lay over."""

    @functools.wraps(method)
    def quietly(self: Any, *args: Any, **kwargs: Any) -> Any:
        before, self._own.busy = self.busy, True
        try:
            return method(self, *args, **kwargs)
        finally:
            self._own.busy = before

    return quietly


class Overlay:
    """Files and folders that the script believes to have written, each with the path under which it really lies.

    threads: those that the script started; they write into the overlay whatever nncheck itself does meanwhile.
    made: what the script made before its first step, which its own clearing up may really remove.
    opened: files that it has opened for writing.
    """

    always: ClassVar[bool] = False
    """In a process that runs a script again: even what it writes before its first step is not written twice."""

    def __init__(self) -> None:
        self.threads: WeakSet[threading.Thread] = WeakSet()
        self.made: list[str] = []
        self.opened: WeakSet[Any] = WeakSet()
        self._own = threading.local()
        self._folder: str | None = None
        self._really: dict[str, str] = {}
        self._gone: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether this thread is about the overlay's own business."""
        return getattr(self._own, "busy", False)

    def lie_in(self, folder: str) -> None:
        """Write into this folder, which somebody else removes."""
        self._folder = folder

    def beside(self) -> bool:
        """Whether this is a thread of the script's own."""
        return threading.current_thread() in self.threads

    def is_made(self, path: Any) -> bool:
        """Whether the script made a file, or the folder it lies in, before its first step."""
        name = _name(path)
        return name is not None and any(name == made or name.startswith(made + os.sep) for made in self.made)

    @_busy
    def really(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what changes files with nothing laid over them."""
        return function(*args, **kwargs)

    @_busy
    def detach(self) -> None:
        """Files that are open for writing stay as they are now: what is written to them from here on goes to copies."""
        for file in list(self.opened):
            with contextlib.suppress(OSError, ValueError):  # closed already, or not a file that can be copied
                file.flush()
                descriptor = file.fileno()
                at = os.lseek(descriptor, 0, os.SEEK_CUR)
                copy = os.open(os.path.join(self._made(), f"open-{descriptor}"), os.O_RDWR | os.O_CREAT, 0o600)
                with open(file.name, "rb") as now, open(copy, "wb", closefd=False) as then:
                    shutil.copyfileobj(now, then)
                os.lseek(copy, at, os.SEEK_SET)
                os.dup2(copy, descriptor)
                os.close(copy)
        self.opened.clear()

    def within(self, path: str) -> str:
        """What a person would look for: the folder that the script made and that holds a file, or the file."""
        return next((made for made in self.made if path.startswith(made + os.sep)), path)

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
