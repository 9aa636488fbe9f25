"""The terminal: one line a check as it ends, then the findings, then one line that says how it went.

On a terminal rich draws colours and a spinner; a pipe, a CI log, NO_COLOR and TERM=dumb get the same lines plain. Rich's
markup is never read: text reaches it in pieces that carry their style beside them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from nncheck._version import __version__
from nncheck.report.findings import (
    TextLine,
    accepted_lines,
    check_line,
    detail_lines,
    finding_lines,
    notice_lines,
    report_lines,
    resolved_lines,
)
from nncheck.report.text import (
    ASCII_ICONS,
    ICONS,
    all_checks,
    clean,
    duration,
    findings,
    headline,
    one_line,
    standing,
    tally,
)
from nncheck.verdict import CheckResult, Report, Status, TargetResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PLAIN_WIDTH = 110  # Columns of a check's line where nobody says how wide the window is: a CI log's usual view.
MAX_WIDTH = 140  # Beyond this the eye loses the line between a check and its time.
REFRESH_HZ = 8  # More often would take time from the training steps in the main thread.

_STYLES = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "bright_black", "error": "magenta"}

# Ours, with what a legacy console can show of them.
_ASCII = {"·": "-", "…": "...", "→": "->", "±": "+-", "≈": "~", "≤": "<=", "≥": ">=", "×": "x", "–": "-", "—": "-"}

# Lines that CI systems obey: GitHub (`::error::`, `##[error]`), Azure (`##vso[`), TeamCity (`##teamcity[`).
_CI_COMMAND = re.compile(r"(?m)^(\s*):(?=:)|#(?=#(?:\[|vso\[|teamcity\[))", re.IGNORECASE)


def plain_findings(report: Report) -> str:
    """The findings and the closing line as plain text."""
    return "\n".join([*(_joined(line) for line in report_lines(report)), closing(report)])


def plain_finding(report: Report, target: TargetResult, result: CheckResult) -> str:
    """One finding, or one check that could not tell, as plain text."""
    return "\n".join(_joined(line) for line in finding_lines(report, target, result))


def closing(report: Report, written: Iterable[str] = ()) -> str:
    """`2 failed, 1 warning, 12 passed in 12 s · exit 1 · report: nncheck-report.html`."""
    parts = [f"{tally(all_checks(report))} in {duration(report.seconds)}", f"exit {report.exit_code}", *written]
    if report.baseline is not None:
        parts.insert(1, standing(report))
    if report.interrupted:
        parts.insert(0, "interrupted")
    return " · ".join(parts)


def verdict_lines(report: Report) -> list[str]:
    """The answer in words, where the findings do not say it already."""
    if any(findings(target) for target in report.targets) or report.could_not_run or report.interrupted:
        return []
    return [f"{headline(report)}. This does not show that the model is good, only that these mistakes are absent."]


def _joined(line: TextLine) -> str:
    return _disarmed("".join(text for _, text in line).rstrip())


def printable(text: str) -> str:
    """Text of any length from the user's side, such as an exception's, safe to print as it is."""
    return _disarmed(clean(text))


def _disarmed(text: str) -> str:
    """No line of ours can be a command to a CI system: the colons and hashes are kept apart by a backslash."""
    return _CI_COMMAND.sub(lambda match: f"{match.group()}\\", text)


class Terminal:
    """Told of a run as it goes, in the order of the methods; `close` (or leaving the `with` block) ends the spinner.

    `quiet` leaves the findings and the last line; `verbose` adds measured numbers, causes and documentation.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._stream = sys.stdout if stream is None else stream
        self._colour, self._live = _abilities(self._stream, os.environ)
        self._console: Console | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage: str | None = None
        self._started = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, target: str) -> None:
        """The first line, before torch is imported: half a dozen silent seconds feel like a hang."""
        name = f" · {one_line(target)}"
        if not self._quiet and self._started:
            self._write([(), (("bold", "target"), ("", name))])
        elif not self._quiet:
            self._write([(("bold", f"nncheck {__version__}"), ("", f"{name} · loading torch and the target"))])
        self._started = True
        self._stage = None
        self._spin("loading torch and the target")

    def several(self, count: int, at_once: int) -> None:
        """The first line where targets are checked side by side: each then has its lines together, as it ends."""
        if not self._quiet:
            said = f" · {count} targets, {at_once} at a time · loading torch"
            self._write([(("bold", f"nncheck {__version__}"), ("", said))])
        self._started = True
        self._spin("loading torch")

    def unchanged(self, target: str, since: str) -> None:
        """A target that is not run again."""
        if not self._quiet:
            first = f"nncheck {__version__}" if not self._started else "target"
            said = f" · {one_line(target)} · unchanged since {since}, not run again"
            self._write([*([()] if self._started else []), (("bold", first), ("", said))])
        self._started = True

    def remark(self, text: str) -> None:
        """What a person may want to know of a target's run."""
        if not self._quiet:
            self._write([(("yellow", "  note: "), ("", one_line(text)))])

    def waiting(self, text: str) -> None:
        """What is going on meanwhile."""
        self._spin(one_line(text))

    def bound(self, lines: Iterable[str], notes: Iterable[str] = ()) -> None:
        """What was found under which name, and what a person should know about it."""
        if not self._quiet:
            self._write([(("", f"  {one_line(line)}"),) for line in lines])
            self._write([(("yellow", "  note: "), ("", one_line(note))) for note in notes])
        self._spin("measuring the first training step")

    def check_started(self, id: str, stage: str) -> None:
        self._spin(f"{one_line(stage)}: {one_line(id)}")

    def check_done(self, result: CheckResult) -> None:
        """One line, so that a killed job still shows where it was."""
        if self._quiet:
            return
        lines: list[TextLine] = []
        if result.stage != self._stage:
            self._stage = result.stage
            lines.append((("bold", str(result.stage)),))
        lines.append(check_line(result, duration(result.seconds), None if self._verbose else self._width()))
        if self._verbose and result.status in (Status.PASS, Status.SKIP):
            lines += detail_lines(result)
        self._write(lines)

    def finish(self, report: Report, *, written: Mapping[str, str] | None = None) -> None:
        """The findings, then the last line. `written` says what lies where: `{"report": "nncheck-report.html"}`."""
        self.close()
        body = report_lines(report, verbose=self._verbose) + (
            [] if self._quiet else accepted_lines(report) + resolved_lines(report)
        )
        if not self._quiet and (report.targets or body):
            self._write([()])
        self._write(body)
        if not self._quiet:
            self._write([(("green", line),) for line in verdict_lines(report)])
        self._write(notice_lines(report))
        files = [f"{name}: {one_line(path)}" for name, path in (written or {}).items()]
        self._write([(("bold", closing(report, files)),)])

    def close(self) -> None:
        """End the spinner. Harmless if there is none."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._task = None

    def _width(self) -> int:
        if self._live:
            try:
                return min(os.get_terminal_size(self._stream.fileno()).columns, MAX_WIDTH)
            except (OSError, ValueError):  # a pseudo-terminal without a size, or a stream without a descriptor
                return PLAIN_WIDTH
        return PLAIN_WIDTH

    def _rich(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self._stream, force_terminal=True, highlight=False, emoji=False, markup=False, soft_wrap=True
            )
        return self._console

    def _spin(self, text: str) -> None:
        if not self._live or self._quiet:
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        if self._progress is None:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._progress = Progress(
                *columns, console=self._rich(), transient=True, refresh_per_second=REFRESH_HZ, redirect_stderr=False
            )
            self._progress.start()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None)

    def _write(self, lines: Iterable[TextLine]) -> None:
        for line in lines:
            if self._colour:
                self._write_colour(line)
            else:
                self._stream.write(self._encodable(_joined(line)) + "\n")
        self._stream.flush()

    def _write_colour(self, line: TextLine) -> None:
        from rich.text import Text

        text = Text()
        for style, piece in line:
            words = [_STYLES.get(word, word) for word in style.split()]
            text.append(self._encodable(_disarmed(piece)), style=" ".join(words))
        self._rich().print(text)

    def _encodable(self, text: str) -> str:
        """What the stream's encoding can show; a console without UTF-8 gets ASCII signs and escapes, never a crash."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            for status, icon in ICONS.items():
                text = text.replace(icon, ASCII_ICONS[status])
            for sign, ascii_sign in _ASCII.items():
                text = text.replace(sign, ascii_sign)
            return text.encode(encoding, "backslashreplace").decode(encoding)
        except LookupError:  # an encoding that Python does not know
            return text.encode("ascii", "backslashreplace").decode("ascii")
        return text


def _abilities(stream: TextIO, environ: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether to use colours, and whether to animate. NO_COLOR beats FORCE_COLOR; CI logs are never animated."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False, False
    forced = environ.get("FORCE_COLOR", "0") not in ("", "0")
    live = bool(getattr(stream, "isatty", lambda: False)()) and not environ.get("CI")
    return live or forced, live
