"""A small process that watches over the one that works: whatever the user's code does, there is a report and an exit code.

A loop inside C code that never looks at a signal, a crash of the interpreter, an `os._exit`, the kernel's out-of-memory
killer: none of these can be answered from within. The watcher never imports torch; it is told of every result as it comes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from nncheck.errors import UsageError
from nncheck.process import session
from nncheck.process.outputs import conclude
from nncheck.process.parent import die_with_the_parent
from nncheck.process.session import Options
from nncheck.registry import catalogue, order_findings
from nncheck.report.terminal import Terminal, printable
from nncheck.verdict import CheckResult, TargetResult, errored, skipped

# After the budget the worker may still finish a step that looks at the clock, put things back and draw the report.
GRACE_SECONDS = 20.0

# A second Ctrl-C within this time is the same one: a terminal sends it to both processes.
SAME_INTERRUPT_SECONDS = 0.5


def run(options: Options) -> int:
    """`session.run` in a process of its own, watched; returns the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    worker = os.fork()
    if worker == 0:
        receiver.close()
        _work(options, sender)
    sender.close()
    return _Watch(options, worker, receiver).run()


def _work(options: Options, sender: Connection) -> None:
    """The worker: never returns."""
    die_with_the_parent()
    # OpenMP's threads spin while they wait, each for its own core. With other work on the same two cores a run took 10 to 17 s;
    # with a short spin 8 s, and alone as long as before (4.1 to 4.6 s). Set before torch is loaded; the user's own value stays.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    last = 0.0

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SAME_INTERRUPT_SECONDS:
            last = now
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)

    def tell(*event: Any) -> None:
        if event[0] == "finishing":  # what is being written is written to the end
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            sender.send(event)

    code = 2
    try:
        code = session.run(options, descriptors=True, tell=tell)
    except UsageError as error:
        print(f"nncheck: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001  # a bug of ours, told as one: the exit code says "could not run"
        import traceback

        print("nncheck failed in its own code; please report this:", file=sys.stderr)
        print(printable(traceback.format_exc()), file=sys.stderr)
    tell("done", code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # threads and exit handlers of the user's code may never end


class _Watch:
    """What the worker has told so far, and how long it may still take."""

    def __init__(self, options: Options, worker: int, receiver: Connection) -> None:
        self._options = options
        self._worker = worker
        self._receiver = receiver
        self._begun = time.monotonic()
        self._hard_end = self._begun + options.budget + GRACE_SECONDS
        self._targets: list[TargetResult] = []
        self._checks: list[CheckResult] = []
        self._running: str | None = None
        self._selected: frozenset[str] = frozenset()
        self._code: int | None = None
        self._interrupts = 0

    def run(self) -> int:
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)
        gone = False
        while not gone and self._code is None:
            left = self._hard_end - time.monotonic()
            if left <= 0:
                return self._take_over(
                    f"did not end {GRACE_SECONDS:g} s after the budget of {self._options.budget:g} s"
                )
            try:
                if self._receiver.poll(min(left, 5.0)):
                    self._hear(self._receiver.recv())
            except (EOFError, OSError):
                gone = True
        status = self._wait()
        if self._code is not None:
            return self._code
        return self._take_over(_death(status), killed=False)

    def _hear(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("target", str(text), frozenset() as selected):
                self._keep()
                self._selected = selected
                self._targets.append(session.failed_target(text, "not loaded", seconds=0.0))
            case ("parts", TargetResult() as parts):
                self._targets[-1] = parts
            case ("started", str(id), _):
                self._running = id
            case ("check", CheckResult() as result):
                self._checks.append(result)
                self._running = None
            case ("done", int(code)):
                self._code = code

    def _keep(self) -> None:
        """The target at hand is done with."""
        if self._targets and self._checks:
            results = {result.id: result for result in self._checks}
            self._targets[-1] = _with(self._targets[-1], checks=tuple(self._checks), findings=order_findings(results))
        self._checks, self._running = [], None

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        self._interrupts += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._worker, signal.SIGINT)
        if self._interrupts > 1:  # it did not listen: not for long any more
            self._hard_end = min(self._hard_end, time.monotonic() + 3.0)

    def _wait(self) -> int:
        """The worker's wait status; it is killed if it does not leave."""
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            pid, status = os.waitpid(self._worker, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.01)
        os.kill(self._worker, signal.SIGKILL)
        return os.waitpid(self._worker, 0)[1]

    def _take_over(self, why: str, *, killed: bool = True) -> int:
        """The worker is lost: write what it told."""
        if killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGKILL)
            os.waitpid(self._worker, 0)
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h\n")  # the worker may have hidden the cursor
        seconds = time.monotonic() - self._begun
        entries = {entry.id: entry for entry in catalogue() if entry.id in self._selected}
        done = {result.id for result in self._checks}
        if self._targets and (self._running or self._checks):
            for id, entry in entries.items():
                if id not in done:
                    verdict = errored(f"the process {why} during this check") if id == self._running else skipped(why)
                    self._checks.append(
                        CheckResult(id=id, stage=entry.stage, verdict=verdict, seconds=0.0, doc=entry.doc)
                    )
            self._keep()
        elif self._targets:
            self._targets[-1] = _with(self._targets[-1], problem=f"the process {why} before the first check")
        report = session.make_report(
            self._targets, self._options, seconds=seconds, interrupted=self._interrupts > 0, environment=False
        )
        stream = sys.stderr if self._options.outputs.json == "-" else sys.stdout
        with Terminal(quiet=self._options.quiet, verbose=self._options.verbose, stream=stream) as terminal:
            conclude(report, self._options.outputs, terminal, out=sys.stdout, stream=stream)
        return report.exit_code


def _with(target: TargetResult, **changes: Any) -> TargetResult:
    import dataclasses

    return dataclasses.replace(target, **changes)


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"ended itself with code {os.WEXITSTATUS(status)}, as os._exit() does,"
