"""A project's own rules on findings: the level of a check, and what is accepted with a reason.

Rules come after the checks: whether one check's failure blocks another was decided before, and a check that could not tell
stays so. A level is set first, then what is accepted is marked; both keep what the check itself said.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from nncheck.config import Accept, Config
from nncheck.config.targets import is_file_name, is_gone, listed, matches, split_name
from nncheck.errors import UsageError
from nncheck.registry import order_findings
from nncheck.verdict import CheckResult, Place, Status, TargetResult

_FINDINGS = (Status.FAIL, Status.WARN)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one target's configuration says of its findings on a day. target: as it was typed; empty if there is no file.

    folder: the working directory, from which the target and the files of places are seen; the user's code may leave it.
    """

    config: Config
    target: str = ""
    folder: Path = field(default_factory=Path.cwd)
    today: datetime.date = field(default_factory=datetime.date.today)

    def on_check(self, result: CheckResult) -> CheckResult:
        """The result at its configured level, and marked if it is accepted, with the reason and how long."""
        result = self._levelled(result)
        entries = [entry for entry in self.in_force() if entry.check == result.id]
        if result.status not in _FINDINGS or not entries:
            return result
        places = result.verdict.places
        reasons = {place: _reason(entries, self._fitting(entries, place)) for place in places}
        everywhere = [entry for entry in entries if not entry.place]
        if everywhere or (places and all(reasons.values())):
            said = [_said(entry) for entry in everywhere] or list(reasons.values())
            return replace(result, accepted="; ".join(dict.fromkeys(said)))
        left = tuple(place for place in places if not reasons[place])
        if len(left) == len(places):
            return result
        aside = tuple(replace(place, detail=reason) for place, reason in reasons.items() if reason)
        return replace(result, verdict=replace(result.verdict, places=left), accepted_places=aside)

    def on_target(self, target: TargetResult) -> TargetResult:
        """Every check's result under the rules, and the findings that are left in reading order."""
        if self.config.path is None:
            return target
        results = {result.id: self.on_check(result) for result in target.checks}
        return replace(target, checks=tuple(results.values()), findings=order_findings(results))

    def in_force(self) -> tuple[Accept, ...]:
        """The entries that hold for this target and have not run out."""
        return tuple(entry for entry in self.config.accept if not self.is_over(entry) and self.concerns(entry))

    def is_over(self, entry: Accept) -> bool:
        """Whether the last day of an entry has passed."""
        return entry.until is not None and self.today > entry.until

    def concerns(self, entry: Accept) -> bool:
        """Whether an entry is meant for this target."""
        if not entry.target:
            return True
        file, name = split_name(self.target)
        wanted, wanted_name = split_name(entry.target)
        if wanted_name and wanted_name != name:
            return False
        return file == wanted or (is_file_name(file) and matches(self._from_config(file), wanted))

    def uses(self, entry: Accept, result: CheckResult) -> bool:
        """Whether an entry accepts anything of a result as the check gave it."""
        if result.id != entry.check or result.status not in _FINDINGS:
            return False
        return not entry.place or any(self._fitting([entry], place) for place in result.verdict.places)

    def _levelled(self, result: CheckResult) -> CheckResult:
        level = self.config.level.get(result.id)
        if level is None or result.status not in _FINDINGS or result.status == level:
            return result
        return replace(result, verdict=replace(result.verdict, status=Status(level)), declared=result.status)

    def _fitting(self, entries: Sequence[Accept], place: Place) -> list[Accept]:
        return [entry for entry in entries if entry.place and self._fits(entry.place, place)]

    def _fits(self, pattern: str, place: Place) -> bool:
        """By the place's name, or by the file in which it lies."""
        if place.name == pattern or fnmatchcase(place.name, pattern):
            return True
        return place.file is not None and matches(self._from_config(place.file), pattern)

    def _from_config(self, file: str) -> str:
        """A path as seen from the configuration's folder."""
        base = os.path.realpath(self.config.path.parent if self.config.path else self.folder)
        whole = os.path.realpath(self.folder / file)
        try:
            return PurePath(os.path.relpath(whole, base)).as_posix()
        except ValueError:  # another drive
            return PurePath(whole).as_posix()


def _said(entry: Accept) -> str:
    return entry.reason if entry.until is None else f"{entry.reason} (until {entry.until.isoformat()})"


def _reason(entries: Sequence[Accept], fitting: Sequence[Accept]) -> str:
    return "; ".join(dict.fromkeys(_said(entry) for entry in entries if entry in fitting))


def notices(judged: Iterable[tuple[Rules, Sequence[TargetResult]]]) -> tuple[str, ...]:
    """What is to be said of the entries of every configuration in use: those that ran out, those that match nothing.

    judged: the rules of each target with its results as the checks gave them. An entry matches nothing if its check passed, or
    found something elsewhere, in every target that it is meant for; one that names no target is judged only where all
    targets that its file lists were run.
    """
    runs = list(judged)
    by_file: dict[Path, list[tuple[Rules, Sequence[TargetResult]]]] = {}
    for rules, results in runs:
        if rules.config.path is not None:
            by_file.setdefault(rules.config.path, []).append((rules, results))
    lines: list[str] = []
    for same in by_file.values():
        rules = same[0][0]
        for entry in rules.config.accept:
            if rules.is_over(entry):
                lines.append(f"{entry.source}: the acceptance of {entry.what} ran out on {entry.until}")
            elif said := _unused(entry, same):
                lines.append(f"{entry.source}: the acceptance of {said}")
    return tuple(lines)


def _unused(entry: Accept, runs: Sequence[tuple[Rules, Sequence[TargetResult]]]) -> str:
    config = runs[0][0].config
    meant = [(rules, results) for rules, results in runs if rules.concerns(entry)]
    if not meant and config.path is not None and entry.target and is_gone(entry.target, config.path.parent):
        return f"{entry.what} matches nothing any more: there is no such file"
    if not meant or not (entry.target or _all_listed(runs)):
        return ""
    asked: list[CheckResult] = []
    for rules, results in meant:
        for result in (result for target in results for result in target.checks if result.id == entry.check):
            if result.status in (Status.SKIP, Status.ERROR) or rules.uses(entry, result):
                return ""
            asked.append(result)
    if not asked:
        return ""
    elsewhere = any(result.status in _FINDINGS for result in asked)
    why = f"{entry.check} found something in other places only" if elsewhere else f"{entry.check} passed"
    other = "" if entry.target or config.targets else "; if it is meant for another target, name that: target = ..."
    return f"{entry.what} matches nothing any more: {why}{other}"


def _all_listed(runs: Sequence[tuple[Rules, Sequence[TargetResult]]]) -> bool:
    rules = runs[0][0]
    try:
        wanted = {_whole(text, rules.folder) for text in listed(rules.config, rules.folder)}
    except UsageError:  # told where the list itself is asked for
        return False
    return wanted <= {_whole(other.target, other.folder) for other, _ in runs}


def _whole(target: str, folder: Path) -> str:
    file, name = split_name(target.partition(" -- ")[0])
    return os.path.realpath(folder / file) + name if is_file_name(file) else target
