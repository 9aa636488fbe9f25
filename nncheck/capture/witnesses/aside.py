"""Copies of the copy: what a script would do if one thing were different, without disturbing its course."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.process.parent import die_with_the_parent

T = TypeVar("T")


def each_aside(
    course: Course, witness: Witness, ways: Sequence[T], begin: Callable[[T], None], *, seconds: float
) -> list[Any] | None:
    """Let a copy of this process go on for each of several ways, side by side, and wait for what `witness` saw in them.

    In a copy None is returned, after `begin(way)`: it is to return into the script. Of one that is not done in time the answer is
    None.
    """
    deadline = time.monotonic() + seconds
    copies = []
    for way in ways:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
            pid = os.fork()
        if pid == 0:
            os.close(reader)
            die_with_the_parent()
            course.watcher.alone(witness, writer)
            begin(way)
            return None
        os.close(writer)
        copies.append((pid, reader))
    return [_answer(pid, reader, deadline) for pid, reader in copies]


def can_go_aside(course: Course) -> bool:
    """Whether this process can be copied."""
    return hasattr(os, "fork") and course.watcher is not None and not torch.cuda.is_initialized()


def _answer(pid: int, reader: int, deadline: float) -> Any:
    chunks = []
    try:
        while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = os.read(reader, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
        else:
            return None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
    told = pickle.loads(b"".join(chunks)) if chunks else {}
    return next(iter(told.values()), None)
