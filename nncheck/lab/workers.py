"""DataLoaders with worker processes: their batches without the processes, and what failed in one."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from nncheck.observe.source import is_users, place_at, words_of
from nncheck.verdict import Place

_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE)


def in_process(loader: Iterable[Any]) -> Iterable[Any]:
    """The same loader without worker processes, which may deadlock and make a run unrepeatable; the user's is left alone.

    A loader that brings its own `__iter__` is returned as it is.
    """
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__ or not loader.num_workers:
        return loader
    alone = copy.copy(loader)
    # Past __setattr__, which forbids changes after the loader was made.
    vars(alone).update(
        num_workers=0, prefetch_factor=None, persistent_workers=False, timeout=0, _iterator=None,
        _DataLoader__multiprocessing_context=None,
    )  # fmt: skip
    return alone


def remote_failure(error: BaseException) -> tuple[str, str, tuple[Place, ...]]:
    """(type, text, the user's frames) of a failure; one in a worker carries its traceback as text in its message."""
    text = words_of(error)
    _, mark, trace = text.partition("Original Traceback (most recent call last):")
    if not mark:
        return type(error).__name__, text, ()
    frames = tuple(
        place_at(m["name"], m["file"], int(m["line"])) for m in _FRAME.finditer(trace) if is_users(m["file"])
    )
    last = trace.strip().splitlines()[-1]
    kind, _, said = last.partition(": ")
    return kind, said or last, frames
