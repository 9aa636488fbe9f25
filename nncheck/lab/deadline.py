"""Nothing runs past the budget: an alarm interrupts the user's code wherever it waits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nncheck.errors import OutOfTime

# Code that swallows the first alarm with a bare `except:` is told again.
REPEAT_SECONDS = 1.0


@contextmanager
def alarm(deadline: float) -> Iterator[None]:
    """Raise OutOfTime inside at `deadline` (of `time.monotonic()`): in `sleep`, in a lock, in an endless loop of Python.

    A deadline already past is left to the checks' own looks at the clock, so that what is known can still be judged.
    Where the system has no alarm signal, off the main thread, or while someone else's alarm is set, only the checks'
    own looks at the clock keep the time.
    """
    usable = (
        time.monotonic() < deadline != float("inf")
        and hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
        and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, signal.SIG_IGN, _ring)
    )
    if not usable:
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001), REPEAT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def silenced() -> Iterator[None]:
    """Inside, an alarm that is set around does not ring: who sets one of his own has the time kept by that."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    left, repeat = signal.setitimer(signal.ITIMER_REAL, 0.0)
    began = time.monotonic()
    try:
        yield
    finally:
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), repeat)


def _ring(_: int, __: FrameType | None) -> None:
    raise OutOfTime
