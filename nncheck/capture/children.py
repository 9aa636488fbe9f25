"""Child processes of a script: a step taken in one is told to the process that watches, and ends the child."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from nncheck.errors import TargetError
from nncheck.observe.source import is_users, place_at
from nncheck.target.reading import read, trains_as_script
from nncheck.verdict import Place

_RUNNING = str(Path(__file__).with_name("running.py"))


def script_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The user's frames from one outwards, up to where nncheck runs the script."""
    while frame is not None and frame.f_code.co_filename != _RUNNING:
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


class InChild:
    """`run` of a child process, forked or begun anew: it goes as far as its first optimizer step."""

    def __init__(self, process: Any, told: str, watching: int) -> None:
        self.process, self.told, self.watching = process, told, watching

    def __call__(self) -> None:
        if "torch" in sys.modules:
            import torch
            from torch.optim.optimizer import register_optimizer_step_pre_hook

            torch.set_num_threads(
                1
            )  # a pool of threads, which an earlier target may have used, does not survive a fork
            register_optimizer_step_pre_hook(lambda *_: step_in_child(self.told, self.watching))
        type(self.process).run(self.process)


def step_in_child(told: str, watching: int) -> None:
    """Say where this step would be taken, and leave. The first child of all to get here wakes the process that watches."""
    places = [(f.f_code.co_name, f.f_code.co_filename, f.f_lineno) for f in script_frames(sys._getframe(1))]
    try:
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        os._exit(0)
    os.write(descriptor, json.dumps(places[::-1]).encode())
    os.close(descriptor)
    os.kill(watching, signal.SIGINT)
    os._exit(0)


def told_by_child(told: str) -> tuple[Place, ...]:
    """Where a child was about to take a step; empty if none was."""
    try:
        text = Path(told).read_text(encoding="utf-8")
    except OSError:
        return ()
    return tuple(place_at(name, file, line) for name, file, line in json.loads(text))


def programs(command: Any) -> list[Path]:
    """The training scripts that a command line names."""
    try:
        words = shlex.split(command) if isinstance(command, str) else [os.fsdecode(os.fspath(word)) for word in command]
    except (TypeError, ValueError):
        return []
    found = []
    for before, word in zip(("", *words), words, strict=False):
        path = Path(word.replace(".", "/") + ".py") if before == "-m" else Path(word)
        try:
            if path.suffix == ".py" and path.is_file() and trains_as_script(read(path)):
                found.append(path)
        except (OSError, TargetError):
            continue
    return found
