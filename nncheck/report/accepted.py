"""What a project accepts, for the short section that every output gives it."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.report.text import one_line
from nncheck.verdict import CheckResult, Report, Status, TargetResult


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One finding, or some of its places, with the reason and, in brackets behind it, how long that holds."""

    result: CheckResult
    place: str
    reason: str


def accepted(target: TargetResult) -> list[Accepted]:
    """In the order in which the checks were asked; of a finding that stays elsewhere, the places that are accepted."""
    rows: list[Accepted] = []
    for result in target.checks:
        if result.accepted:
            rows.append(Accepted(result=result, place="", reason=one_line(result.accepted)))
        for place in result.accepted_places:
            rows.append(Accepted(result=result, place=one_line(place.name), reason=one_line(place.detail)))
    return rows


def any_accepted(report: Report) -> bool:
    return any(accepted(target) for target in report.targets)


def shown_status(result: CheckResult) -> Status:
    """The status by which a result is drawn: what is accepted is drawn like what was not asked."""
    return Status.SKIP if result.accepted else result.status


def level_set(result: CheckResult) -> str:
    """`set by the configuration; the check itself says fail`, where a configured level took the place of the check's own."""
    return "" if result.declared is None else f"set by the configuration; the check itself says {result.declared.value}"
