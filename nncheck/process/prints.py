"""What the user's code prints while it is checked: kept aside, its tail shown when something fails."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from types import TracebackType
from typing import Any, TextIO

# The tail that is kept. A module that prints megabytes costs no more memory than this.
KEPT_BYTES = 16_384
SHOWN_LINES = 8


class _Tail(io.RawIOBase):
    """Keeps the last bytes written to it."""

    def __init__(self, descriptor: int | None) -> None:
        self.kept = bytearray()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(memoryview(data))
        self.kept += piece[-KEPT_BYTES:]
        if len(self.kept) > 2 * KEPT_BYTES:
            del self.kept[:-KEPT_BYTES]
        return len(piece)

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor


class UserOutput:
    """Inside, `sys.stdout` and `sys.stderr` are the user's and lead aside; `out` and `err` are ours and lead outside.

    With `descriptors`, what C code and child processes write to file descriptors 1 and 2 is led aside too.
    """

    def __init__(self, *, descriptors: bool) -> None:
        self._descriptors = descriptors
        self._outside = (sys.stdin, sys.stdout, sys.stderr)
        self._saved: list[int] = []
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._file = tempfile.TemporaryFile() if descriptors else None  # noqa: SIM115  # closed in __exit__
        self._tail = _Tail(1 if descriptors else None)

    def __enter__(self) -> UserOutput:
        if self._file is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            self._saved = [os.dup(1), os.dup(2)]
            self.out, self.err = (
                os.fdopen(fd, "w", encoding=stream.encoding, errors="backslashreplace", buffering=1, closefd=False)
                for fd, stream in zip(self._saved, (sys.stdout, sys.stderr), strict=True)
            )
            os.dup2(self._file.fileno(), 1)
            os.dup2(self._file.fileno(), 2)
        aside = io.TextIOWrapper(
            io.BufferedWriter(self._tail, 1), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        sys.stdout = sys.stderr = aside
        # Nobody can answer a question that is not shown: input() gets an end of file instead of waiting.
        sys.stdin = io.StringIO()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdin, sys.stdout, sys.stderr = self._outside
        if self._file is not None:
            self.out.flush()
            self.err.flush()
            for descriptor, saved in enumerate(self._saved, start=1):
                os.dup2(saved, descriptor)
                os.close(saved)
            self._file.close()

    def tail(self) -> str:
        """The last lines that the user's code printed; empty if there are none."""
        text = bytes(self._tail.kept)
        if self._file is not None:
            size = os.fstat(self._file.fileno()).st_size
            text += os.pread(self._file.fileno(), KEPT_BYTES, max(0, size - KEPT_BYTES))
        lines = [line.rstrip() for line in text.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
        return "\n".join(lines[-SHOWN_LINES:])

    def forget(self) -> None:
        """Start anew, e.g. for the next target."""
        self._tail.kept.clear()
        if self._file is not None:
            os.ftruncate(self._file.fileno(), 0)
