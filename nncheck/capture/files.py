"""What a script writes: noted until its first step, and from then on led into the overlay."""

from __future__ import annotations

import builtins
import io
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from nncheck.capture.past_python import PastPython
from nncheck.lab.interception import Patches

if TYPE_CHECKING:
    from nncheck.capture.script import Script


def watch_files(script: Script, patches: Patches) -> None:
    """Files opened for writing are noted; once the first step is reached, they are written into the overlay."""
    overlay = script.overlay

    def laid() -> bool:
        if overlay.busy or (script.mode == "record" and not overlay.always):
            return False
        return script.mode in ("replay", "onward", "ending") or overlay.always or overlay.beside()

    def note(file: Any) -> None:
        if script.mode == "record" and isinstance(file, (str, os.PathLike)):
            name = os.path.abspath(os.fsdecode(os.fspath(file)))
            if not name.startswith(("/dev/", "/proc/")):
                script.record.written.append(name)
                if not os.path.lexists(name) and not overlay.is_made(name):
                    while not os.path.lexists(os.path.dirname(name)):  # folders that are made with it
                        name = os.path.dirname(name)
                    overlay.made.append(name)

    def opener(real: Callable[..., Any]) -> Callable[..., Any]:
        def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = bool(set(mode) & set("wax+"))
            if laid():
                keep = not set(mode) & set("wx")
                file = overlay.writing(file, keep=keep) if writes else overlay.reading(file)
            elif writes:
                note(file)
            opened = real(file, mode, *args, **kwargs)
            if writes and script.mode == "record":
                overlay.opened.add(opened)
            return opened

        return open

    patches.put(builtins, "open", opener(builtins.open))
    patches.put(io, "open", opener(io.open))
    # NumPy's text files are opened by what stood there when it was imported.
    kept: Any = getattr(sys.modules.get("numpy.lib._datasource"), "_file_openers", None)
    if isinstance(getattr(kept, "_file_openers", None), dict):
        patches.put(kept, "_file_openers", kept._file_openers | {None: builtins.open})
    save = torch.save

    def saved(value: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if laid():
            f = overlay.writing(f)
        else:
            note(f)
        save(value, f, *args, **kwargs)

    def reading(name: str) -> None:
        real = getattr(os, name)
        patches.put(os, name, lambda path=".", *a, **k: real(overlay.reading(path) if laid() else path, *a, **k))

    def changing(owner: Any, name: str, instead: Callable[..., Any], *, arguments: int = 1) -> None:
        real = getattr(owner, name)
        makes, clears = instead == overlay.make_folder, instead == overlay.remove

        def change(*args: Any, **kwargs: Any) -> Any:
            if clears and script.mode == "ending" and not overlay.busy and overlay.is_made(args[0]):
                return overlay.really(real, *args, **kwargs)
            if not laid():
                if makes and not os.path.isdir(args[0]):
                    note(args[0])
                return real(*args, **kwargs)
            return instead(*args[:arguments])

        patches.put(owner, name, change)

    def copies(source: Any, target: Any) -> Any:
        overlay.move(source, target, copy=True)
        return target

    patches.put(torch, "save", saved)
    past = PastPython(overlay, patches, laid)
    past.look()
    bring = builtins.__import__

    def imported(name: str, *args: Any, **kwargs: Any) -> Any:
        module = bring(name, *args, **kwargs)
        past.imported(name)
        return module

    patches.put(builtins, "__import__", imported)
    for name in ("stat", "lstat", "listdir", "scandir", "access", "chmod", "utime", "truncate"):
        reading(name)
    for name in ("mkdir", "makedirs"):
        changing(os, name, overlay.make_folder)
    for owner, name in ((os, "remove"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
        changing(owner, name, overlay.remove)
    for owner, name in ((os, "rename"), (os, "replace"), (shutil, "move")):
        changing(owner, name, overlay.move, arguments=2)
    for owner, name in (
        (os, "link"), (os, "symlink"), (shutil, "copy"), (shutil, "copyfile"), (shutil, "copy2"), (shutil, "copytree"),
    ):  # fmt: skip
        changing(owner, name, copies, arguments=2)
