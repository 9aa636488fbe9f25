"""The script itself, going on for real: in a copy of the process, watched, for a few short epochs.

Validation, schedules, what a loop keeps and forgets: these show only in what a script does next. A fork at the first step costs
nothing, runs beside the checks, and whatever happens in it stays there: what it writes lies in an overlay, what it prints nowhere.
Where a process cannot be forked, the script is run again from its beginning in a new one.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from nncheck.capture.finding import find_stepping, held_by
from nncheck.capture.watcher import Watcher
from nncheck.capture.witnesses.modes import ModesSeen
from nncheck.capture.witnesses.optimizers import OptimizersSeen
from nncheck.capture.witnesses.schedules import SchedulesSeen
from nncheck.errors import CannotMeasure
from nncheck.process.parent import die_with_the_parent
from nncheck.recipe import Setup

if TYPE_CHECKING:
    from nncheck.capture.script import Script

T = TypeVar("T")

# So long the script goes on at most.
SECONDS = 30.0


# A second run needs its own time to get there: Python's, torch's and the script's.
START_SECONDS, SLOWER = 20.0, 3.0

# In a process that runs the script again: what is done at its first step.
instead: Callable[[Script], None] | None = None
# Evidence that there is for each of several optimizers.
_OF_EACH = (ModesSeen, OptimizersSeen, SchedulesSeen)


class Onward:
    """A script that goes on in another process; `answer` waits for what its witnesses saw.

    reader: what it writes its answer to. end: kills it, if it is still there, and waits for it. scratch: the folder it writes into.
    """

    def __init__(
        self,
        reader: int,
        end: Callable[[], int],
        scratch: str,
        *,
        optimizers: Sequence[Any],
        seconds: float = SECONDS,
    ) -> None:
        self._held = [held_by(optimizer) for optimizer in optimizers]
        self._judged: set[int] = set()
        self._first = type(optimizers[0]).__name__
        self._reader, self._kill, self._scratch = reader, end, scratch
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._answers: dict[tuple[str, int | None], Any] | None = None
        self._why = ""
        self._ended = False

    def judge(self, optimizers: Sequence[Any]) -> None:
        """These have a result each."""
        self._judged = {number for number in map(self._number, optimizers) if number is not None}

    def of(self, optimizer: Any) -> Part:
        """What is one optimizer's of it. The first takes what others do that have no result of their own."""
        number = self._number(optimizer)
        alone = number == 0 and (len(self._held) == 1 or len(self._judged) < len(self._held))
        return Part(onward=self, number=None if alone else number, elsewhere="" if number == 0 else self._first)

    def _number(self, optimizer: Any) -> int | None:
        ids = held_by(optimizer)
        return next((number for number, held in enumerate(self._held) if held & ids), None)

    def answer(self, kind: type[T], number: int | None) -> T:
        """The evidence of one witness, of all optimizers or of one. Raises CannotMeasure if there is none, with the reason."""
        if self._answers is None:
            self._answers = self._read()
        found = self._answers.get((kind.__name__, number))
        if found is None:
            raise CannotMeasure(self._why or "the script ended before this could be seen")
        assert isinstance(found, kind)
        return found

    def close(self) -> None:
        """The copy is no longer needed."""
        if self._answers is None:
            self._answers = {}
            self._end()

    def _read(self) -> dict[tuple[str, int | None], Any]:
        chunks = []
        while True:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, self._deadline - time.monotonic()))
            if not ready:
                self._why = f"the script's loop did not get far in {self._seconds:.0f} s"
                break
            chunk = os.read(self._reader, 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
        status = self._end()
        if not chunks or self._why:
            self._why = self._why or f"the script ended its process soon after its first step, {_death(status)}"
            return {}
        told: dict[tuple[str, int | None], Any] = pickle.loads(b"".join(chunks))
        return told

    def _end(self) -> int:
        if self._ended:
            return 0
        self._ended = True
        try:
            return self._kill()
        finally:
            os.close(self._reader)
            shutil.rmtree(self._scratch, ignore_errors=True)


def go_on(script: Script) -> Onward | None:
    """Let another process go on with the script. A copy returns from here as well, with `script.mode` "onward": it is to return
    into the script."""
    scratch = tempfile.mkdtemp(prefix="nncheck-")
    optimizers = find_stepping(script.record)
    if not can_fork():
        return _anew(script, scratch, optimizers)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
        pid = os.fork()
    if pid:
        os.close(writer)
        return Onward(reader, lambda: _end_copy(pid), scratch, optimizers=optimizers)
    os.close(reader)
    die_with_the_parent()
    script.overlay.lie_in(scratch)
    become(script, writer)
    return None


def taken_over(script: Script) -> bool:
    """Whether this process runs the script again: what is to be done at its first step is then done."""
    if instead is not None:
        instead(script)
    return instead is not None


def can_fork() -> bool:
    """Whether a copy of this process can use torch: a GPU's driver does not survive a fork."""
    return hasattr(os, "fork") and not torch.cuda.is_initialized()


def _anew(script: Script, scratch: str, optimizers: list[Any]) -> Onward:
    from nncheck.capture.again import give, start

    process = start(script.early)
    give(process, script.early, "onward", scratch=scratch)
    assert process.stdout is not None

    def end() -> int:
        with process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.1)
            process.kill()
            return process.wait()

    seconds = SECONDS + START_SECONDS + SLOWER * script.early.seconds
    return Onward(os.dup(process.stdout.fileno()), end, scratch, optimizers=optimizers, seconds=seconds)


def _end_copy(pid: int) -> int:
    for _ in range(20):  # one that ends by itself is asked how
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _death(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with exit code {status}"


def become(script: Script, writer: int) -> None:
    """From here on this process is the one that goes on with the script, and answers at `writer`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(SECONDS) + 5)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for as long as the copy lives
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    script.mode = "onward"
    script.watcher = Watcher(script, writer, SECONDS)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of a script that goes on is one optimizer's. number: among all that are followed by themselves; None: all of it.

    elsewhere: with whom the rest is judged, if not with this one.
    """

    onward: Onward
    number: int | None
    elsewhere: str = ""

    def answer(self, kind: type[T]) -> T:
        """The evidence of one witness. Raises CannotMeasure if there is none, with the reason."""
        if self.number is not None and kind in _OF_EACH:
            return self.onward.answer(kind, self.number)
        if self.elsewhere:
            raise CannotMeasure(f"the script's loop is judged with {self.elsewhere}, which steps first")
        return self.onward.answer(kind, None)


def witnessed(setup: Setup, kind: type[T]) -> T:
    """What a witness saw of the script that a set-up was found in. Raises CannotMeasure if there is none, with the reason."""
    onward: Part | None = getattr(setup.train_step, "onward", None)
    if onward is None:
        raise CannotMeasure("the target is not a script whose own loop could be watched")
    return onward.answer(kind)
