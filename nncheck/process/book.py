"""The targets of one run: what each has told is kept, and drawn so that no target's lines stand between another's."""

from __future__ import annotations

from typing import Any, TextIO

from nncheck.gate.cache import Hit, local_time
from nncheck.gate.rules import notices
from nncheck.process.heard import Heard
from nncheck.process.kept import Kept
from nncheck.process.session import Options, make_report
from nncheck.report.terminal import Terminal, printable
from nncheck.verdict import CheckResult, Report, TargetResult


class Book:
    """Told of the events of every job by its place in `options.jobs`: `begin`, then `hear`, then one of the other three.

    live: only one is at work at a time, and its lines are drawn as they come; else they are drawn together as it ends.
    errors: where tracebacks go. kept: where results are kept, if they are. remarks: what is to be said as a target begins.
    """

    def __init__(
        self, options: Options, terminal: Terminal, *, errors: TextIO, live: bool, kept: Kept | None = None
    ) -> None:
        self.interrupted = False
        self.remarks: dict[int, str] = {}
        self._kept = kept
        self._options = options
        self._terminal = terminal
        self._errors = errors
        self._live = live
        self._heard = [Heard(job) for job in options.jobs]
        self._later: dict[int, list[tuple[Any, ...]]] = {}
        self._over: list[int] = []
        self._front: int | None = None
        self._doing: dict[int, str] = {}

    def begin(self, index: int) -> None:
        """A target's turn has come."""
        self._later[index] = []
        if self._live and self._front is None:
            self._front = index
        self.hear(index, ("target", self._options.jobs[index].shown))
        if index in self.remarks:
            self.hear(index, ("remark", self.remarks[index]))

    def unchanged(self, index: int, answer: Hit) -> None:
        """A target is not run again: nothing has changed since it was."""
        self._heard[index].results = list(answer.results)
        self._heard[index].surroundings = answer.environment | {"command": self._options.command}
        self._terminal.unchanged(self._options.jobs[index].shown, local_time(answer.since))

    def hear(self, index: int, event: tuple[Any, ...]) -> None:
        """One event of `session.Tell`."""
        heard = self._heard[index]
        heard.hear(event)
        match event:
            case ("interrupted",):
                self.interrupted = True
            case ("recorded", inputs, str(why)) if self._kept is not None and not self.interrupted:
                why = self._kept.keep(index, heard, inputs, why)
                event = ("remark", f"it will be run again, for {why}") if why else event
            case ("check", CheckResult() as result):
                event = ("check", heard.rules.on_check(result))
        if index == self._front:
            self._draw(event)
            return
        self._later[index].append(event)
        if not self._live and event[0] in ("target", "started"):
            self._doing[index] = (
                f"{self._options.jobs[index].shown}: {event[1] if event[0] == 'started' else 'loading'}"
            )
            self._terminal.waiting(" · ".join(self._doing.values()))

    def ended(self, index: int) -> None:
        """All is told."""
        if self.interrupted:
            self._heard[index].interrupted()
        self._doing.pop(index, None)
        self._over.append(index)
        if self._front == index:
            del self._later[index]
            self._front = None
        if self._front is not None:  # its lines are not torn apart
            return
        for done in self._over:
            self._draw_later(done)
        self._over.clear()
        if self._live and self._later:
            self._front = next(iter(self._later))
            self._draw_later(self._front)
            self._later[self._front] = []

    def lost(self, index: int, why: str) -> None:
        """Its process is gone: "was ended by SIGSEGV"."""
        self._heard[index].lost(why)
        self.ended(index)

    def left_out(self, index: int, why: str) -> None:
        """There is no time for it any more."""
        self._heard[index].left_out(why)

    def report(self, *, seconds: float) -> Report:
        """Everything that was told, targets in the order in which they were named."""
        told = (heard.surroundings for heard in self._heard if heard.surroundings)
        return make_report(
            [heard.rules.on_target(result) for heard in self._heard for result in heard.results],
            self._options,
            seconds=seconds,
            interrupted=self.interrupted,
            surroundings=next(told, {}),
            notices=notices([(heard.rules, heard.results) for heard in self._heard]),
        )

    def _draw_later(self, index: int) -> None:
        for event in self._later.pop(index, ()):
            self._draw(event)

    def _draw(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("target", str(name)):
                self._terminal.start(name)
            case ("parts", TargetResult() as parts):
                self._terminal.bound(parts.bound, parts.notes)
            case ("started", str(id), str(stage)):
                self._terminal.check_started(id, stage)
            case ("check", CheckResult() as result):
                self._terminal.check_done(result)
            case ("remark", str(text)):
                self._terminal.remark(text)
            case ("trace", str(text)):
                self._terminal.close()  # a spinner would draw over it
                self._errors.write(printable(text))
                self._errors.flush()
