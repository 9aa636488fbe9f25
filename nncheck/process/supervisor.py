"""A process without torch that watches over those that work: whatever the user's code does, there is a report and an exit code.

A loop inside C code that never looks at a signal, a crash of the interpreter, an `os._exit`, the kernel's out-of-memory
killer: none of these can be answered from within. Each target has a process of its own; this one is told of every result
as it comes, and no target's end or delay takes another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nncheck.errors import UsageError
from nncheck.process.book import Book
from nncheck.process.nursery import serve
from nncheck.process.plain import unpacked
from nncheck.process.session import Options

# After the budget a target may still finish a step that looks at the clock, put things back and tell the rest.
GRACE_SECONDS = 20.0

OWN_FAULT = "nncheck failed in its own code; please report this:"

# How long after a signal this process looks what is to be done.
LOOK_SECONDS = 0.5


class Broken(Exception):
    """nncheck failed in its own code; the text is the traceback."""


def cores() -> int:
    """So many processors this process may use; a container's share of them counts."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        share, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if share != "max":
            usable = min(usable, max(1, int(share) // int(period)))
    return usable


@contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Inside, signals that ask this process to end are only listed: what is being written is written to the end."""
    listed: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: listed.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield listed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    options: Options,
    book: Book,
    *,
    waiting: list[int],
    slots: int,
    threads: int | None,
    deadline: float,
    interrupts: list[int],
    at_work: Callable[[], None],
    journals: Path | None = None,
) -> None:
    """Check the jobs whose places are `waiting`, at most `slots` of them side by side, and tell the book.

    threads: as many for each; None: as torch has it. at_work: called once, when torch is imported and the first of them begins.
    journals: a folder for notes of what each reads; None: nobody asks. Raises UsageError for an option that cannot be met here, and
    Broken.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ours, theirs = multiprocessing.Pipe()
    watcher = os.getpid()
    nursery = os.fork()
    if not nursery:
        ours.close()
        serve(options, theirs, watcher=watcher, deadline=deadline, threads=threads, journals=journals)
    theirs.close()
    watching = _Watch(
        options, book, ours, nursery, interrupts, at_work, waiting=waiting, slots=slots, deadline=deadline
    )
    try:
        watching.run()
    finally:
        watching.end()


@dataclass(kw_only=True)
class _Child:
    """A target at work. told: it has said that this is all. open: more may come. why: how it failed, if it said so."""

    index: int
    pid: int
    events: Connection
    begun: float
    told: bool = False
    open: bool = True
    why: str = ""


class _Watch:
    """Which targets are at work, which wait, and how long that may take."""

    def __init__(
        self,
        options: Options,
        book: Book,
        control: Connection,
        nursery: int,
        interrupts: list[int],
        at_work: Callable[[], None],
        *,
        waiting: list[int],
        slots: int,
        deadline: float,
    ) -> None:
        self._options = options
        self._book = book
        self._control = control
        self._nursery = nursery
        self._interrupts = interrupts
        self._at_work: Callable[[], None] | None = at_work
        self._answered = 0
        self._waiting = deque(waiting)
        self._asked: list[int] = []
        self._children: dict[int, _Child] = {}
        self._slots = slots
        self._deadline = deadline
        self._hard_end = deadline + GRACE_SECONDS
        # One that takes longer than this goes on, and no longer keeps those that wait from beginning.
        self._share = options.budget * slots / max(len(waiting), 1)

    def run(self) -> None:
        """Until every target is done with. Raises UsageError and Broken as `watch`."""
        while self._waiting or self._asked or self._children:
            self._interrupt()
            self._start()
            left = self._hard_end - time.monotonic()
            if left <= 0:
                self._give_up(f"did not end {GRACE_SECONDS:g} s after the budget of {self._options.budget:g} s")
                return
            events = {child.events: child for child in self._children.values() if child.open}
            ready = wait([self._control, *events], timeout=min(left, LOOK_SECONDS))
            for connection in ready:
                if connection in events:
                    self._hear(events[connection])
            if self._control in ready and not self._listen():
                return

    def end(self) -> None:
        """Whatever still runs is killed."""
        self._control.close()  # at which the nursery ends, and its children with it
        end = time.monotonic() + LOOK_SECONDS
        with contextlib.suppress(ChildProcessError):
            while not os.waitpid(self._nursery, os.WNOHANG)[0]:
                if time.monotonic() > end:
                    _kill(self._nursery)
                time.sleep(0.005)

    def _start(self) -> None:
        now = time.monotonic()
        busy = sum(now - child.begun < self._share for child in self._children.values())
        while self._waiting and len(self._asked) + busy < self._slots:
            index = self._waiting.popleft()
            if now >= self._deadline:
                self._book.left_out(
                    index, f"the time budget of {self._options.budget:g} s ran out before its turn came"
                )
                continue
            self._book.begin(index)
            self._asked.append(index)
            with contextlib.suppress(OSError):  # it is gone: that is heard soon
                self._control.send(index)

    def _interrupt(self) -> None:
        """Pass on what has been asked of this process since it was last looked at."""
        asked = len(self._interrupts)
        if asked == self._answered:
            return
        self._answered = asked
        self._waiting.clear()
        self._book.interrupted = True
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGINT)
        if not self._children:  # torch is being imported: nothing is lost
            self._asked.clear()
        if asked > 1:  # they did not listen: not for long any more
            self._hard_end = min(self._hard_end, time.monotonic() + 3.0)

    def _listen(self) -> bool:
        """What the nursery says; whether it is still there."""
        try:
            event = self._control.recv()
            match event:
                case ("forked", int(index), int(pid)):
                    events = Connection(reduction.recv_handle(self._control), writable=False)
                    self._asked.remove(index)
                    self._children[index] = _Child(index=index, pid=pid, events=events, begun=time.monotonic())
                    if self._at_work is not None:
                        self._at_work()
                        self._at_work = None
                    if self._interrupts:
                        os.kill(pid, signal.SIGINT)
                case ("ended", int(index), int(status)):
                    self._ended(index, status)
                case ("broken", str(text)):
                    raise Broken(text)
        except (EOFError, OSError):
            self._give_up(_death(os.waitpid(self._nursery, 0)[1]))
            return False
        return True

    def _hear(self, child: _Child) -> None:
        """Everything that a target has told by now."""
        with contextlib.suppress(EOFError, OSError):
            while child.events.poll():
                self._note(child, unpacked(child.events.recv_bytes()))
            return
        child.events.close()  # nothing comes any more; how it ended, the nursery says
        child.open = False

    def _note(self, child: _Child, event: tuple[Any, ...]) -> None:
        match event:
            case ("done",):
                child.told = True
            case ("unusable", str(text)):
                raise UsageError(text)
            case ("broken", str(text)):
                self._book.hear(child.index, ("trace", f"{OWN_FAULT}\n{text}"))
                child.why = "failed in nncheck's own code"
            case _:
                self._book.hear(child.index, event)

    def _ended(self, index: int, status: int) -> None:
        child = self._children[index]
        if child.open:
            self._hear(child)
        del self._children[index]
        if child.told:
            self._book.ended(index)
        else:
            self._book.lost(index, child.why or _death(status))

    def _give_up(self, why: str) -> None:
        for index, child in list(self._children.items()):
            if child.open:
                self._hear(child)
            _kill(child.pid)
            del self._children[index]
            if child.told:
                self._book.ended(index)
            else:
                self._book.lost(index, why)
        for index in self._asked:
            self._book.lost(index, why)
        for index in self._waiting:
            self._book.left_out(index, f"the process {why} before its turn came")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"ended itself with code {os.WEXITSTATUS(status)}, as os._exit() does,"
