"""The process that imports torch once and makes a copy of itself for each target: what one does never reaches another."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
import warnings
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from nncheck.errors import UsageError
from nncheck.gate.recorder import Recorder
from nncheck.process.parent import die_with_the_parent
from nncheck.process.plain import packed
from nncheck.process.prints import UserOutput
from nncheck.process.session import Options, check_job

# A process that has so much as counted its GPUs cannot be copied; where there are any, only what is known not to is imported.
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")

# A second Ctrl-C within this time is the same one: a terminal sends it to every process, and the watching one again.
SAME_INTERRUPT_SECONDS = 0.5


def serve(
    options: Options,
    control: Connection,
    *,
    watcher: int,
    deadline: float,
    threads: int | None,
    journals: Path | None,
) -> NoReturn:
    """Fork a child for each index that comes by `control`, tell of it and of its end; never returns.

    Sends ("forked", index, process) followed by the handle of the pipe its events come by, ("ended", index, wait status), and
    ("broken", traceback) if torch or nncheck cannot be imported.
    """
    die_with_the_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # OpenMP's threads spin while they wait, each for its own core. With other work on the same two cores a run took 10 to 17 s;
    # with a short spin 8 s, and alone as long as before (4.1 to 4.6 s). Set before torch is loaded; the user's own value stays.
    recorder = None if journals is None else Recorder(dict(os.environ), journals)
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if recorder is not None:
        recorder.watch_environment()
    try:
        _import_all(several=len(options.jobs) > 1)
    except BaseException:  # noqa: BLE001  # whatever it is, the watching process says it
        control.send(("broken", traceback.format_exc()))
        os._exit(2)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    with contextlib.suppress(EOFError, OSError):
        while True:
            ready = wait([control, woken])
            if control in ready:
                index = control.recv()
                children[_fork(options, index, control, (woken, wake), watcher, deadline, recorder)] = index
            if woken in ready:
                os.read(woken, 4096)
            for pid in list(children):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    control.send(("ended", children.pop(pid), status))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _import_all(*, several: bool) -> None:
    """What every target needs, as long as that leaves a process that can be forked: no thread, no device."""
    if sys.platform != "linux":
        return  # macOS's frameworks cannot be used in a copy of a process that has loaded them
    import nncheck.lab.snapshot
    import nncheck.runner
    import nncheck.target.assemble  # noqa: F401
    from nncheck.registry import load

    load()
    if several and not any(map(os.path.exists, GPUS)):
        import torch._dynamo  # noqa: F401  # the first optimizer that is made imports it, for a second


def _fork(
    options: Options,
    index: int,
    control: Connection,
    mine: tuple[int, int],
    watcher: int,
    deadline: float,
    recorder: Recorder | None,
) -> int:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads: NumPy's, which are made for it
        pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (*mine, reader):
            os.close(descriptor)
        control.close()
        _work(options, index, Connection(writer, readable=False), deadline, recorder)
    os.close(writer)
    control.send(("forked", index, pid))
    reduction.send_handle(control, reader, watcher)
    os.close(reader)
    return pid


def _work(options: Options, index: int, sender: Connection, deadline: float, recorder: Recorder | None) -> NoReturn:
    """The child: one target."""
    die_with_the_parent()
    last = 0.0

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SAME_INTERRUPT_SECONDS:
            last = now
            raise KeyboardInterrupt

    def tell(*event: Any) -> None:
        data = packed(event)
        # Half of an event would spoil all that come after it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGALRM})
        try:
            with contextlib.suppress(OSError):
                sender.send_bytes(data)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    os.register_at_fork(after_in_child=sender.close)  # what a DataLoader's worker outlives, it does not keep open
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(silent, descriptor)
    try:
        signal.signal(signal.SIGINT, interrupt)
        with UserOutput(descriptors=True) as output:
            if recorder is not None:
                recorder.watch_files(str(index))
            check_job(options.jobs[index], options, tell, output=output, deadline=deadline)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if recorder is not None:
            tell("recorded", *recorder.finish())
    except UsageError as error:
        tell("unusable", str(error))
    except KeyboardInterrupt:
        tell("interrupted")
    except BaseException:  # noqa: BLE001  # a bug of ours, told as one
        tell("broken", traceback.format_exc())
        os._exit(2)
    tell("done")
    os._exit(0)  # threads and exit handlers of the user's code may never end
