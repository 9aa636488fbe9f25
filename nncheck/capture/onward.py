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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from nncheck.capture.finding import find_model, find_schedulers
from nncheck.capture.frameworks import keep_short
from nncheck.capture.iteration import iterations
from nncheck.capture.witnesses import KINDS, Course, Witness
from nncheck.errors import CannotMeasure
from nncheck.observe.source import words_of
from nncheck.process.parent import die_with_the_parent
from nncheck.recipe import Setup

if TYPE_CHECKING:
    from nncheck.capture.script import Script
    from nncheck.capture.taps import Tap

T = TypeVar("T")

# An epoch is ended after so many batches, or as many as make four steps; a validation is seen whole up to a length.
EPOCH_BATCHES, EPOCH_STEPS = 8, 4
VALIDATION_BATCHES = 50
# So many epochs show what is done once in each. A loop without them, that asks for its batches by itself, is followed for so many
# steps; and, as long as it takes no longer than the checks, to the validation that it makes every few hundred.
EPOCHS, STEPS, MOST_STEPS, QUICK_SECONDS = 3, 32, 600, 5.0
SECONDS = 30.0


# A second run needs its own time to get there: Python's, torch's and the script's.
START_SECONDS, SLOWER = 20.0, 3.0

# In a process that runs the script again: what is done at its first step.
instead: Callable[[Script], None] | None = None
_leave = os._exit


class Onward:
    """A script that goes on in another process; `answer` waits for what its witnesses saw.

    reader: what it writes its answer to. end: kills it, if it is still there, and waits for it. scratch: the folder it writes into.
    """

    def __init__(self, reader: int, end: Callable[[], int], scratch: str, *, seconds: float = SECONDS) -> None:
        self._reader, self._kill, self._scratch = reader, end, scratch
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._answers: dict[str, Any] | None = None
        self._why = ""
        self._ended = False

    def answer(self, kind: type[T]) -> T:
        """The evidence of one witness. Raises CannotMeasure if there is none, with the reason."""
        if self._answers is None:
            self._answers = self._read()
        found = self._answers.get(kind.__name__)
        if found is None:
            raise CannotMeasure(self._why or "the script ended before this could be seen")
        assert isinstance(found, kind)
        return found

    def close(self) -> None:
        """The copy is no longer needed."""
        if self._answers is None:
            self._answers = {}
            self._end()

    def _read(self) -> dict[str, Any]:
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
        told: dict[str, Any] = pickle.loads(b"".join(chunks))
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
    if not can_fork():
        return _anew(script, scratch)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads, of which the copy uses none
        pid = os.fork()
    if pid:
        os.close(writer)
        return Onward(reader, lambda: _end_copy(pid), scratch)
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


def _anew(script: Script, scratch: str) -> Onward:
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
    return Onward(os.dup(process.stdout.fileno()), end, scratch, seconds=seconds)


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
    script.watcher = Watcher(script, writer)


def witnessed(setup: Setup, kind: type[T]) -> T:
    """What a witness saw of the script that a set-up was found in. Raises CannotMeasure if there is none, with the reason."""
    onward: Onward | None = getattr(setup.train_step, "onward", None)
    if onward is None:
        raise CannotMeasure(
            getattr(setup.train_step, "alone", "") or "the target is not a script whose own loop could be watched"
        )
    return onward.answer(kind)


class Watcher:
    """In the copy: tells the witnesses what the script does, keeps its epochs short, and ends the process when enough is seen."""

    def __init__(self, script: Script, writer: int) -> None:
        self._writer = writer
        os._exit = lambda status: self.finish()  # a script that ends its process has been seen up to there
        record = script.record
        model, _ = find_model(record, record.optimizer)
        library = keep_short(script, self)
        here = next(iter(iterations(record)), None) if library is None else None
        loader = library.loader if library is not None else None if here is None else here.loader
        self.course = Course(
            model=model if model is not None else nn.Module(),
            optimizer=record.optimizer,
            loader=loader,
            schedulers=find_schedulers(record.optimizer),
            roots=list(record.roots),
            made=dict(record.made),
            early=script.early.schedules,
            not_its_own=script.not_its_own,
            watcher=self,
            library=library,
        )
        self._begun = time.monotonic()
        # One that a loop's `for` goes through ends an epoch early; one that is asked by `next()` may never end.
        self._endless = loader is None or (here is not None and not here.by_for)
        self._long = self.length_of(1 if here is None else here.micro)
        self._asked: dict[int, Tap] = {}
        self._end = time.monotonic() + SECONDS
        self._witnesses: list[Witness] = [kind(self.course) for kind in KINDS]
        # Frames of the first iteration would keep its tensors alive.
        record.step = record.backward = ()
        record.called = None
        record.requests.clear()
        del here
        self._each("begin")

    def begun(self, loader: Any) -> None:
        """A loader's iterator is made."""
        self.over(loader)
        if loader is self.course.loader and not self.course.validating:
            self.course.epochs += 1
            if self.course.epochs > EPOCHS and not self._endless:
                self.finish()
        self._each("loader_begun", loader)

    def next(self, tap: Tap, iterator: Any) -> Any:
        """The next batch of a loader, or StopIteration before its time."""
        self._look()
        loader = tap.loader
        most = self._long if loader is self.course.loader else VALIDATION_BATCHES
        if tap.over:
            raise StopIteration
        if tap.onward >= most and not (self._endless and loader is self.course.loader):
            self.course.cut.add(id(loader))
            self._ended(tap)
            raise StopIteration
        try:
            batch = next(iterator)
        except StopIteration:
            self._ended(tap)
            raise
        tap.onward += 1
        self._asked[id(loader)] = tap
        self._each("batch", loader, batch)
        return batch

    def over(self, loader: Any) -> None:
        """A library is done with a loader, and has not asked it for the batch after the last."""
        tap = self._asked.get(id(loader))
        if self.course.library is None or tap is None or tap.over:
            return
        self._ended(tap)

    def _ended(self, tap: Tap) -> None:
        tap.over = True
        self._each("loader_over", tap.loader)

    @staticmethod
    def length_of(micro: int) -> int:
        """How many batches of an epoch are seen, if so many make a step."""
        return max(EPOCH_BATCHES, EPOCH_STEPS * max(1, micro))

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """The script calls a module itself."""
        self.course.training = torch.is_grad_enabled()
        self._each("call", module, args, kwargs)

    def leaving(self, module: nn.Module, output: Any) -> None:
        """That call has returned."""
        self._each("returned", module, output)

    def lossy(self, loss: Tensor) -> None:
        """`backward` is about to be called."""
        self.course.backwards += 1
        self._each("backward", loss)

    def stepping(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        self._look()
        if optimizer is self.course.optimizer or type(optimizer) is type(self.course.optimizer):
            self.course.steps += 1
        self._each("step", optimizer)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""
        self._each("stepped", optimizer)
        # Between two steps nothing is half done.
        late = time.monotonic() - self._begun > QUICK_SECONDS or self.course.steps > MOST_STEPS
        if self.course.steps > STEPS and late and (self._endless or self.course.epochs > 1):
            self.finish()

    def alone(self, witness: Witness, writer: int) -> None:
        """In a copy of this copy: from here on one witness is told, and its evidence goes to `writer`."""
        os.close(self._writer)
        self._witnesses, self._writer = [witness], writer

    def finish(self) -> NoReturn:
        """Enough is seen, or the script is over: send the evidence and end the copy."""
        told: dict[str, Any] = {}
        for witness in self._witnesses:
            try:
                evidence = witness.evidence()
                pickle.dumps(evidence)
            except Exception as error:  # noqa: BLE001  # one that fails leaves the others theirs
                print(type(witness).__name__, words_of(error), file=sys.stderr)
                continue
            told[type(evidence).__name__] = evidence
        answer = pickle.dumps(told)
        while answer:
            answer = answer[os.write(self._writer, answer) :]
        _leave(0)

    def _look(self) -> None:
        if time.monotonic() > self._end - 1:
            self.finish()

    def _each(self, event: str, *values: Any) -> None:
        for witness in list(self._witnesses):
            try:
                getattr(witness, event)(*values)
            except Exception:  # noqa: BLE001  # a measurement that fails is not made; the script goes on
                self._witnesses.remove(witness)
