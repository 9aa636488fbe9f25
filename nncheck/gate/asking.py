"""Who asks for a file or a variable, and what about: the target, a library on its behalf, or nncheck and Python for themselves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from nncheck.observe.source import is_ours

NO_FILES = ("/dev/", "/proc/", "/sys/")

# Whoever asks by way of these wants to know whether something is there, of which kind or how large; only by these functions, when
# it was changed.
_ASK_FOR_OTHERS = frozenset(
    {"<frozen genericpath>", "<frozen posixpath>", "genericpath", "posixpath", "pathlib", "_local", "glob"}
)
_ASK_WHEN = frozenset({"getmtime", "getatime", "getctime", "stat", "lstat"})

# Python's own looking at sources and scratch files, for a traceback or a copy.
_OWN_LOOKS = frozenset({"linecache", "inspect", "tokenize", "traceback", "zipimport", "tempfile", "shutil", "warnings"})


def absolute(path: Any) -> str | None:
    """A file's path, whatever the folder; None for what is no path, or no file that can be kept."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    name = os.path.abspath(os.fsdecode(path))
    return None if name.startswith(NO_FILES) else name


def asks(frame: FrameType) -> tuple[FrameType | None, bool]:
    """Who asks about a file, and whether it is to know when it was changed. frame: the one that calls `os.stat`."""
    asker: FrameType | None = frame
    by = ""
    while asker is not None and {asker.f_code.co_filename, _name(asker)} & _ASK_FOR_OTHERS:
        by, asker = asker.f_code.co_name, asker.f_back
    return asker, not by or by in _ASK_WHEN


def asker_beyond(files: tuple[str, ...]) -> FrameType | None:
    """The innermost frame that is neither of the recorder's nor of these files of Python's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in _RECORDING and file not in files and _name(frame) not in files:
            return frame
        frame = frame.f_back
    return None


def _name(frame: FrameType) -> str:
    """`ctypes` for a frame of `ctypes/__init__.py`, `subprocess` for one of `subprocess.py`."""
    path = Path(frame.f_code.co_filename)
    return path.parent.name if path.name == "__init__.py" else path.stem


def looks_by_itself(asker: FrameType, *, sources: bool = True) -> bool:
    """Whether it is nncheck, Python's import or (sources) what prints a traceback that looks, and not the target."""
    file = asker.f_code.co_filename
    parts = Path(file).parts
    if is_ours(file) or file.startswith("<frozen importlib") or ("importlib" in parts and "resources" not in parts):
        return True
    return sources and _name(asker) in _OWN_LOOKS


def own_attribute(module: Any, name: str) -> Any:
    """A module's own attribute; some make up whatever they are asked for."""
    return vars(module).get(name) if isinstance(module, ModuleType) else None


_RECORDING = frozenset({__file__, str(Path(__file__).with_name("recorder.py"))})
