"""The vocabulary of a result: plain data, standard library only, so that any renderer can read it.

A check returns a `Verdict`; the runner adds who said it and how long it took (`CheckResult`), gathers them
by target (`TargetResult`) and hands a `Report` to the renderers. Nothing in here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from nncheck.exhibits import (
    Bars as Bars,
    Curve as Curve,
    Exhibit as Exhibit,
    Guide as Guide,
    Heatmap as Heatmap,
    Histogram as Histogram,
    Line as Line,
    Panel as Panel,
    Sample as Sample,
    Samples as Samples,
    Table as Table,
)

SCHEMA_VERSION = 1


class Stage(StrEnum):
    """The stages of the recipe, in the order a person works through them."""

    SETUP = "setup"
    DATA = "data"
    INIT = "init"
    WIRING = "wiring"
    LOOP = "loop"
    LEARNING = "learning"
    RESUME = "resume"


class Status(StrEnum):
    """What a check says. `skip`: does not apply; `error`: could not tell. Neither is a pass."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something is: a layer, parameter or sample by name, and the user's line if one is known.

    `file` is relative to the working directory where it lies in its repository, else absolute. `line` and `column` count from
    1; the region of the class, constructor or call that is meant ends before `end_column` of `end_line`. `source` is the text
    of the first line.
    """

    name: str
    file: str | None = None
    line: int | None = None
    detail: str = ""
    source: str | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """One thing to do. `tried`/`worked`/`measured` are set when nncheck tried it on a copy and asked the check again."""

    text: str
    code: str | None = None
    tried: bool = False
    worked: bool | None = None
    measured: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found. `measured` is one sentence with the numbers in it, on a pass too.

    `summary` is the headline of a finding ("loss starts at 4.87; ..."); left empty, `measured` is used.
    `numbers` repeats the key figures for programs; `spread` has, for those that chance moves, the standard error that was
    measured, under the same names. `follows`: ids whose finding, if there is one, is the root of this one
    in this very case, whatever the check's `consequence_of` says of the usual case.
    """

    status: Status
    measured: str = ""
    expected: str = ""
    summary: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    causes: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    why_skipped: str | None = None
    follows: tuple[str, ...] = ()
    near: str = ""
    """Said where the figure lies so near its threshold that another seed might tell otherwise."""


def passed(measured: str, *, expected: str = "", **details: Any) -> Verdict:
    """All right; the number is shown all the same."""
    return Verdict(status=Status.PASS, measured=measured, expected=expected, **details)


def warned(measured: str, *, expected: str, **details: Any) -> Verdict:
    """Worth a look; not proof of a mistake."""
    return Verdict(status=Status.WARN, measured=measured, expected=expected, **details)


def failed(measured: str, *, expected: str, **details: Any) -> Verdict:
    """A mistake, or something that will stop the training."""
    return Verdict(status=Status.FAIL, measured=measured, expected=expected, **details)


def skipped(why: str, *, measured: str = "", **details: Any) -> Verdict:
    """The check does not apply here, and why."""
    return Verdict(status=Status.SKIP, measured=measured, why_skipped=why, **details)


def errored(why: str, *, places: tuple[Place, ...] = ()) -> Verdict:
    """The check could not tell: a probe or the check itself crashed."""
    return Verdict(status=Status.ERROR, measured=why, summary=why, places=places)


@dataclass(frozen=True, kw_only=True)
class Doc:
    """A check's docstring, split at its five headings; the same words feed every output."""

    title: str
    what: str
    why: str
    fix: str
    limits: str
    source: str


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A verdict, who said it and what it took. `seconds` includes the measurements it was first to ask for.

    accepted: the reason for which the configuration accepts this finding; empty if it does not. accepted_places: where it is
    accepted while it is not elsewhere, each with its reason as `detail`. known: the finding is in the baseline. declared: what
    the check itself said, where the configuration sets another level.
    """

    id: str
    stage: Stage
    verdict: Verdict
    seconds: float
    doc: Doc
    accepted: str = ""
    accepted_places: tuple[Place, ...] = ()
    known: bool = False
    declared: Status | None = None

    @property
    def is_finding(self) -> bool:
        """Whether a person should read it: it fails or warns, and nobody has accepted that."""
        return self.status in (Status.FAIL, Status.WARN) and not self.accepted

    @property
    def status(self) -> Status:
        return self.verdict.status

    @property
    def summary(self) -> str:
        """The one line said of this check everywhere."""
        verdict = self.verdict
        return verdict.summary or verdict.why_skipped or verdict.measured


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took. One training step is one forward, one backward and one update on the user's batch."""

    seconds: float = 0.0
    train_steps: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    by_probe: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ChecklistItem:
    """One item of the recipe and whether it is done: ticked by a person with a note, or by `checks` that passed.

    `done` is None where the checks that would tick it did not apply or were not asked.
    """

    id: str
    phase: str
    text: str
    checks: tuple[str, ...]
    done: bool | None
    note: str


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """Everything said of one target. `findings` are the failing and warning ids that nobody accepted, the root cause first."""

    target: str
    model: str
    parameters: int
    loss: str
    optimizer: str
    bound: tuple[str, ...]
    notes: tuple[str, ...]
    checks: tuple[CheckResult, ...]
    findings: tuple[str, ...]
    seconds: float
    cost: Cost
    checklist: tuple[ChecklistItem, ...] = ()
    problem: str | None = None
    """Why the target could not be used at all; then there are no checks."""
    cached: str = ""
    """When it was run (ISO 8601), if nothing has changed since and it was not run again."""
    file: str = ""
    """Its own file from the repository's root; empty if it lies outside of it."""
    set_up: str = ""
    """Source that binds its parts in plain PyTorch, for `reproduce.py` in a bundle; empty where they cannot be bound."""

    @property
    def verdict(self) -> Literal["pass", "warn", "fail", "error"]:
        """The worst of the checks, accepted ones apart; `error` when something could not be told and nothing failed."""
        statuses = {Status.PASS if result.accepted else result.status for result in self.checks}
        if Status.FAIL in statuses:
            return "fail"
        ran = statuses & {Status.PASS, Status.WARN}
        if self.problem is not None or Status.ERROR in statuses or not ran:
            return "error"
        return "warn" if Status.WARN in statuses else "pass"

    def check(self, id: str) -> CheckResult:
        """The result of the check `id`. Raises KeyError if it was not asked."""
        for result in self.checks:
            if result.id == id:
                return result
        raise KeyError(id)


@dataclass(frozen=True, kw_only=True)
class Against:
    """The baseline that a run is held against: its file, and the findings in it that are there no more, a line each."""

    file: str
    resolved: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run: every target and what surrounds them. Plain data; `nncheck.report` turns it into text.

    folder: the working directory as seen from the repository's root ("" if it is the root). notices: what is to be said of the
    configuration, such as an acceptance that has run out.
    """

    nncheck_version: str
    created: str
    environment: dict[str, str]
    targets: tuple[TargetResult, ...]
    seconds: float
    fail_on: Literal["fail", "warn", "never"] = "fail"
    interrupted: bool = False
    folder: str = ""
    notices: tuple[str, ...] = ()
    baseline: Against | None = None

    @property
    def verdict(self) -> Literal["pass", "warn", "fail", "error"]:
        """The worst of the targets."""
        verdicts = {target.verdict for target in self.targets}
        if "fail" in verdicts:
            return "fail"
        if "error" in verdicts or not verdicts:
            return "error"
        return "warn" if "warn" in verdicts else "pass"

    @property
    def cost(self) -> Cost:
        by_probe: dict[str, float] = {}
        for target in self.targets:
            for name, steps in target.cost.by_probe.items():
                by_probe[name] = by_probe.get(name, 0.0) + steps
        return Cost(
            seconds=self.seconds,
            train_steps=sum(t.cost.train_steps for t in self.targets),
            forward=sum(t.cost.forward for t in self.targets),
            backward=sum(t.cost.backward for t in self.targets),
            by_probe=by_probe,
        )

    @property
    def found(self) -> bool:
        """Whether anything is at or above `fail_on` that is neither accepted nor in the baseline."""
        return any(self.breaks(result) for target in self.targets for result in target.checks)

    def breaks(self, result: CheckResult) -> bool:
        """Whether this result is a reason for exit code 1."""
        bad = {"fail": {Status.FAIL}, "warn": {Status.FAIL, Status.WARN}, "never": set()}[self.fail_on]
        return result.is_finding and not result.known and result.status in bad

    @property
    def could_not_run(self) -> bool:
        """A target could not be used, no check ran, or a check crashed."""
        if not self.targets:
            return True
        for target in self.targets:
            statuses = {result.status for result in target.checks}
            if target.problem is not None or Status.ERROR in statuses or not statuses - {Status.SKIP}:
                return True
        return False

    @property
    def outcome(self) -> Literal["passed", "findings", "could-not-run", "interrupted"]:
        if self.interrupted:
            return "interrupted"
        if self.found:
            return "findings"
        return "could-not-run" if self.could_not_run else "passed"

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings at or above `fail_on`, 2 could not run, 130 interrupted."""
        return {"passed": 0, "findings": 1, "could-not-run": 2, "interrupted": 130}[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready data; its fields are promises, `schema_version` 1."""
        from nncheck.report.json import to_dict

        return to_dict(self)

    def __str__(self) -> str:
        return self.to_markdown()

    def to_markdown(self) -> str:
        """The result as GitHub-flavoured Markdown."""
        from nncheck.report.markdown import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """The whole report page: one self-contained HTML document."""
        from nncheck.report.html import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        """A fragment for notebooks: no script, no request."""
        from nncheck.report.html import to_fragment

        return to_fragment(self)

    def raise_for_findings(self) -> Report:
        """Return self if nothing is at or above `fail_on`; raise `FindingsError` with the findings as text otherwise."""
        from nncheck.errors import FindingsError
        from nncheck.report.terminal import plain_findings

        if self.found:
            raise FindingsError(plain_findings(self), self)
        return self
