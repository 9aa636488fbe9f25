"""What one target has told so far, and what is said of it if its process is lost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from nncheck.gate.rules import Rules
from nncheck.process.session import Job, failed_target
from nncheck.registry import catalogue, order_findings
from nncheck.verdict import CheckResult, Cost, TargetResult, Verdict, errored, skipped


class Heard:
    """The events of one job, as `session.Tell` lists them. results: one for each optimizer that is done with, in order, as told;
    the configuration's rules change what is shown of them.
    """

    def __init__(self, job: Job) -> None:
        self.results: list[TargetResult] = []
        self.rules = Rules(config=job.config, target=job.target)
        self.surroundings: dict[str, str] = {}
        self._job = job
        self._name = job.shown
        self._begun = time.monotonic()
        self._parts: TargetResult | None = None
        self._checks: list[CheckResult] = []
        self._running: str | None = None
        self._all = False

    def hear(self, event: tuple[Any, ...]) -> None:
        """One event. Others than these are for whoever draws."""
        match event:
            case ("surroundings", dict() as surroundings):
                self.surroundings = surroundings
            case ("target", str()):
                self._begun = time.monotonic()
            case ("all",):
                self._all = True
            case ("parts", TargetResult() as parts):
                self._parts = parts
            case ("started", str(id), _):
                self._running = id
            case ("check", CheckResult() as result):
                self._checks.append(result)
                self._running = None
            case ("result", TargetResult() as target):
                self.results.append(target)
                self._parts, self._checks, self._running = None, [], None

    def lost(self, why: str) -> None:
        """The process is gone: what it told stays, the check at hand could not tell, those after it did not run."""
        if self._all:
            return
        seconds = time.monotonic() - self._begun
        if self._parts is None or not (self._running or self._checks):
            parts = self._parts or failed_target(self._name, "", seconds=seconds)
            problem = f"the process {why} before the first check"
            self.results.append(
                dataclasses.replace(parts, problem=problem, seconds=seconds, cost=Cost(seconds=seconds))
            )
            return

        def verdict(id: str) -> Verdict:
            during = id == self._running
            return errored(f"the process {why} during this check") if during else skipped(f"the process {why}")

        self._close(verdict)

    def interrupted(self) -> None:
        """Nothing more comes: what is left of the target at hand was not run."""
        if self._parts is not None and self._checks:
            self._close(lambda _: skipped("interrupted"))

    def _close(self, verdict: Callable[[str], Verdict]) -> None:
        assert self._parts is not None
        seconds = time.monotonic() - self._begun
        results = {result.id: result for result in self._checks}
        for entry in catalogue():
            if entry.id in self._job.selected and entry.id not in results:
                results[entry.id] = CheckResult(
                    id=entry.id, stage=entry.stage, verdict=verdict(entry.id), seconds=0.0, doc=entry.doc
                )
        parts = dataclasses.replace(self._parts, checks=tuple(results.values()), findings=order_findings(results))
        self.hear(("result", dataclasses.replace(parts, seconds=seconds, cost=Cost(seconds=seconds))))

    def left_out(self, why: str) -> None:
        """It never began."""
        self.results.append(failed_target(self._name, why, seconds=0.0))
