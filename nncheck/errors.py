"""What can go wrong, by whose hand. Every one of these ends as one clear message; `Report.exit_code` says how a run ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nncheck.verdict import Place, Report


class NNCheckError(Exception):
    """Base of the errors that a caller of nncheck may want to catch."""


class UsageError(NNCheckError):
    """The options or the configuration cannot be used."""


class TargetError(NNCheckError):
    """The target cannot be used: its file, its parts or its own code. `places` point into the user's files.

    `help` is what to do; `detail` is what surrounds it (the user's frames, the shapes of the batch).
    """

    def __init__(self, message: str, *, places: tuple[Place, ...] = (), detail: str = "", help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.places = places
        self.detail = detail
        self.help = help


def explain(error: TargetError) -> str:
    """A target error as the text a person reads."""
    lines = [error.message]
    for place in error.places:
        where = f"{place.file}:{place.line}" if place.file else ""
        lines.append(f"  {where}  in {place.name}  {place.source or ''}".rstrip())
    if error.detail:
        lines.append(f"  note: {error.detail}")
    if error.help:
        lines.append(f"  help: {error.help}")
    return "\n".join(lines)


class CannotMeasure(NNCheckError):
    """A probe does not apply to this set-up; its message becomes the reason of a skip."""


class OutOfTime(BaseException):
    """The run's time budget is used up. A BaseException so that a broad `except Exception` in user code lets it pass."""


class FindingsError(NNCheckError, AssertionError):
    """Raised by `Report.raise_for_findings`; `report` holds everything."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
