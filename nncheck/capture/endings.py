"""However a script is built, it ends where nncheck wants it to: its handlers, threads and child processes included.

A handler of the user's around the loop may catch everything, a signal may have a handler of its own, a thread may go on, the
training may sit in a child process. Each of these is met here; what only records what a script does is in `hooks.py`.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import multiprocessing
import multiprocessing.process
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from nncheck.capture.children import InChild, programs, script_frames, step_in_child, told_by_child
from nncheck.capture.script import Ended
from nncheck.lab.interception import Patches
from nncheck.observe.source import is_ours, is_users, place_at
from nncheck.verdict import Place

if TYPE_CHECKING:
    from nncheck.capture.script import Script

# What ends a script from outside is nncheck's to answer: the user's handlers of these are not installed.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name))

# The last lines of a script (`finally`, `except BaseException`) have so long to end by themselves.
LAST_SECONDS = 2.0
AGAIN_SECONDS = 0.05


class Containment:
    """What a script set going besides its own lines, and how it is ended.

    interrupted: by a person. late: where it stood when its time was up. exits, programs, children: where it ended its own process
    or started others. in_child: where a child process took a step.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._process = os.getpid()
        self._main = threading.current_thread() is threading.main_thread()
        self._handlers: dict[int, Any] = {}
        self._atexit: list[Callable[..., Any]] = []
        self._popen: list[subprocess.Popen[Any]] = []
        # The first child to make this file is the one that tells.
        self._told = os.path.join(tempfile.gettempdir(), f"nncheck-child-{self._process}-{time.monotonic_ns()}")
        self._signal, self._setitimer = signal.signal, getattr(signal, "setitimer", None)
        self.interrupted = False
        self.late: tuple[Place, ...] | None = None
        self.exits: tuple[str, tuple[Place, ...]] | None = None
        self.program: tuple[str, tuple[Place, ...]] | None = None
        self.in_child: tuple[Place, ...] = ()

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """The script runs inside; afterwards nothing of it goes on."""
        patches = Patches()
        processes = {id(child) for child in multiprocessing.active_children()}
        stepping = register_optimizer_step_pre_hook(lambda *_: self._stepping())
        self._exits(patches)
        self._children(patches)
        self._threads(patches)
        if self._main:
            self._signals(patches)
            self._listen()
        try:
            yield
        finally:
            if self._main:
                self._settle()
            stepping.remove()
            for function in self._atexit:
                atexit.unregister(function)
            for child in multiprocessing.active_children():
                if id(child) not in processes:
                    _end_process(child)
            for program in self._popen:
                if program.poll() is None:
                    program.kill()
                    program.wait()
            patches.take_back()
            self.in_child = told_by_child(self._told)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._told)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """nncheck's own work inside the script: signals mean what they meant before it."""
        self._script.overlay.detach()
        if self._main:
            for number, handler in self._handlers.items():
                self._signal(number, handler)
        try:
            yield
        finally:
            # The copy that goes on with the script has its own clock and listens to nobody.
            if self._main and os.getpid() == self._process:
                self._listen()
                self._unwind()

    def end_threads(self) -> None:
        """Threads of the script are told to leave; one that waits somewhere for ever is left, and dies with the process."""
        if self._main:
            self._settle()  # the script is over: the clock that ends it would end this instead
        threads = [thread for thread in self._script.overlay.threads if thread.is_alive() and thread.ident is not None]
        for thread in threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        end = time.monotonic() + LAST_SECONDS
        for thread in threads:
            if not thread.daemon:  # a daemon, such as that of a progress bar, may sleep for long
                thread.join(max(0.0, end - time.monotonic()))

    # Signals.
    def _signals(self, patches: Patches) -> None:
        set_handler, handler_of = signal.signal, signal.getsignal
        users: dict[int, Any] = {}

        def install(number: int, handler: Any) -> Any:
            if number not in _SIGNALS or is_ours(sys._getframe(1).f_code.co_filename):
                return set_handler(number, handler)
            before = users.get(number, signal.SIG_DFL)
            users[number] = handler
            return before

        def installed(number: int) -> Any:
            ours = is_ours(sys._getframe(1).f_code.co_filename)
            return handler_of(number) if ours else users.get(number, handler_of(number))

        patches.put(signal, "signal", install)
        patches.put(signal, "getsignal", installed)
        for name in ("alarm", "setitimer"):
            real = getattr(signal, name, None)
            if real is not None:
                patches.put(signal, name, self._own_clock(real, 0 if name == "alarm" else (0.0, 0.0)))

    def _own_clock(self, real: Callable[..., Any], nothing: Any) -> Callable[..., Any]:
        def clock(*arguments: Any) -> Any:
            if is_ours(sys._getframe(1).f_code.co_filename):
                return real(*arguments)
            return nothing  # the one alarm clock of a process is the budget's

        return clock

    def _listen(self) -> None:
        self._handlers = {signal.SIGINT: self._signal(signal.SIGINT, self._on_interrupt)}
        if hasattr(signal, "SIGALRM"):
            self._handlers[signal.SIGALRM] = self._signal(signal.SIGALRM, self._on_alarm)

    def _settle(self) -> None:
        sys.settrace(None)
        if self._setitimer is not None and self._script.mode in ("ending", "off"):
            self._setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._handlers.items():
            self._signal(number, handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            os._exit(1)
        if not told_by_child(self._told):
            self.interrupted = True
        self.end()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._script.mode != "ending":
            self.late = self._places(frame)
            self.end()
        # Two seconds are over, and a handler of the user's still holds the script: out, level by level.
        sys.settrace(self._trace)
        for each in script_frames(frame):
            each.f_trace = self._trace
        raise Ended

    def end(self) -> None:
        """End the script where it stands."""
        self._script.mode = "ending"
        self._unwind()
        raise Ended

    def _unwind(self) -> None:
        if self._main and self._setitimer is not None:
            self._setitimer(signal.ITIMER_REAL, LAST_SECONDS, AGAIN_SECONDS)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not is_users(file):
            return None
        if event == "line" and not _caught(file, frame.f_lineno):
            raise Ended
        return self._trace

    def _places(self, frame: FrameType | None) -> tuple[Place, ...]:
        found = [place_at(f.f_code.co_name, f.f_code.co_filename, f.f_lineno) for f in script_frames(frame)]
        return tuple(reversed(found))

    # What ends the process, or starts others.
    def _exits(self, patches: Patches) -> None:
        leave, register = os._exit, atexit.register

        def _exit(code: int) -> Any:
            if os.getpid() == self._process and self._script.mode in ("record", "ending"):
                if self._script.mode == "record":
                    self.exits = (f"os._exit({code!r})", self._places(sys._getframe(1)))
                self.end()
            leave(code)

        def at_exit(function: Any, *args: Any, **kwargs: Any) -> Any:
            if is_users(sys._getframe(1).f_code.co_filename):
                self._atexit.append(function)
            return register(function, *args, **kwargs)

        patches.put(os, "_exit", _exit)
        patches.put(atexit, "register", at_exit)

    def _children(self, patches: Patches) -> None:
        start, popen, system = multiprocessing.process.BaseProcess.start, subprocess.Popen.__init__, os.system

        def begin(process: Any) -> None:
            self._another()
            if self._script.mode == "record":
                process.run = InChild(process, self._told, self._process)
            start(process)

        def opened(program: Any, args: Any, *rest: Any, **options: Any) -> None:
            self._another()
            self._hands_over(args)
            popen(program, args, *rest, **options)
            if self._script.mode == "record":
                self._popen.append(program)

        def shell(command: Any) -> int:
            self._another()
            self._hands_over(command)
            return system(command)

        patches.put(multiprocessing.process.BaseProcess, "start", begin)
        patches.put(subprocess.Popen, "__init__", opened)
        patches.put(os, "system", shell)
        for name in ("execv", "execve"):
            real = getattr(os, name, None)
            if real is not None:
                patches.put(os, name, self._replacing(real))

    def _replacing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def replace(path: Any, arguments: Any, *rest: Any) -> Any:
            if os.getpid() == self._process and self._script.mode == "record":
                self.program = (" ".join(map(str, arguments)), self._places(sys._getframe(1)))
                self.end()
            return real(path, arguments, *rest)

        return replace

    def _another(self) -> None:
        """Another process is started: neither while the script ends, nor by the copy that goes on with it."""
        if os.getpid() == self._process and self._script.mode == "ending":
            raise Ended
        if self._script.mode == "onward":
            self._script.watcher.finish()

    def _hands_over(self, command: Any) -> None:
        if self._script.mode == "record" and os.getpid() == self._process and programs(command):
            words = command if isinstance(command, (str, os.PathLike)) else " ".join(map(str, command))
            self.program = (str(words), self._places(sys._getframe(2)))
            self.end()

    def _stepping(self) -> None:
        if self._script.mode != "record":
            return
        if os.getpid() != self._process:
            step_in_child(self._told, self._process)
        self._script.overlay.detach()

    def _threads(self, patches: Patches) -> None:
        start, threads = threading.Thread.start, self._script.overlay.threads

        def begin(thread: threading.Thread) -> None:
            if self._script.mode != "off" or threading.current_thread() in threads:
                threads.add(thread)
            start(thread)

        patches.put(threading.Thread, "start", begin)


def _caught(file: str, line: int) -> bool:
    """Whether what is raised on a line meets a handler in the same function."""
    from nncheck.capture.loops import tree_of

    tree = tree_of(file)
    return any(
        node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)
        for node in ([] if tree is None else ast.walk(tree))
        if isinstance(node, (ast.Try, ast.TryStar)) and node.handlers
    )


def _end_process(child: Any) -> None:
    child.terminate()
    child.join(0.5)
    if child.is_alive():
        child.kill()
        child.join(0.5)
