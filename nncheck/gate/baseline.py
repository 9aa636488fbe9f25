"""A baseline: the findings that a project knew when it took nncheck up, so that only what is new fails.

A file for the repository, sorted and with one finding a line, so that a review shows what came and went. A finding is known by
its target, its check and its places, never by figures or lines, and only at the level it had: one that has become worse is new.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nncheck.errors import UsageError
from nncheck.report.identity import identities, target_key
from nncheck.report.text import one_line
from nncheck.verdict import Against, CheckResult, Report, Status, TargetResult

SCHEMA_VERSION = 1

# What is told by a status is worse from left to right.
_RANK = {Status.WARN: 0, Status.FAIL: 1}


@dataclass(frozen=True, kw_only=True, order=True)
class Known:
    """One finding at one place. target: its file as seen from the repository's root; at: `dead-relu | layer3.relu`."""

    target: str
    check: str
    at: str
    status: Status


def read_baseline(path: Path) -> tuple[Known, ...]:
    """What a file says. Raises UsageError, with the reason, if it is no baseline."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no baseline {path}; write one with --baseline {path} --update-baseline") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no baseline: not JSON ({error})") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"{path} has schema_version {version}; this nncheck reads up to {SCHEMA_VERSION}")
    try:
        entries = tuple(_entry(entry) for entry in data["findings"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is no baseline: {what}") from error
    return entries


def _entry(data: Any) -> Known:
    status = Status(data["status"])
    if status not in _RANK:
        raise ValueError(f"status is {status.value!r}")
    return Known(target=str(data["target"]), check=str(data["check"]), at=str(data["at"]), status=status)


def held_against(report: Report, entries: Collection[Known], *, file: str) -> Report:
    """The report with its known findings marked, and what is resolved named. file: the baseline's, as people see it."""
    known = {(entry.target, entry.at): entry for entry in entries}
    targets = []
    for target in report.targets:
        checks = tuple(
            dataclasses.replace(result, known=result.is_finding and _is_known(target, result, known))
            for result in target.checks
        )
        targets.append(dataclasses.replace(target, checks=checks))
    resolved: dict[str, list[str]] = {}
    for entry in sorted(entries):
        if _is_resolved(entry, report.targets):
            places = resolved.setdefault(one_line(f"{entry.target}: {entry.check}"), [])
            places += [one_line(place)] if (place := entry.at.partition(" | ")[2]) else []
    lines = tuple(f"{finding} | {', '.join(places)}" if places else finding for finding, places in resolved.items())
    return dataclasses.replace(report, targets=tuple(targets), baseline=Against(file=file, resolved=lines))


def _is_known(target: TargetResult, result: CheckResult, known: dict[tuple[str, str], Known]) -> bool:
    entries = [known.get((target_key(target), at)) for at in identities(target, result)]
    return all(entry is not None and _RANK[entry.status] >= _RANK[result.status] for entry in entries)


def _is_resolved(entry: Known, targets: Iterable[TargetResult]) -> bool:
    """Whether its check was asked of its target, could tell, and does not find this any more."""
    for target in targets:
        if target_key(target) != entry.target:
            continue
        for result in target.checks:
            if result.id == entry.check:
                there = result.is_finding and entry.at in identities(target, result)
                return not there and result.status not in (Status.SKIP, Status.ERROR)
    return False


def updated(report: Report, entries: Iterable[Known], *, root: Path) -> tuple[Known, ...]:
    """The baseline after this run: what was asked and could be told is as found now, everything else as it was.

    An entry whose target is no longer in the repository is dropped. root: the repository's.
    """
    told = {
        (target_key(target), result.id)
        for target in report.targets
        for result in target.checks
        if result.status not in (Status.SKIP, Status.ERROR)
    }
    kept = [e for e in entries if (e.target, e.check) not in told and _is_there(e.target, root)]
    found = [
        Known(target=target_key(target), check=result.id, at=at, status=result.status)
        for target in report.targets
        for result in target.checks
        if result.is_finding
        for at in identities(target, result)
    ]
    return tuple(sorted({*kept, *found}))


def _is_there(target: str, root: Path) -> bool:
    file = target.partition(" [")[0]
    return any(os.path.exists(root / name) for name in (file, file.rpartition(":")[0] or file))


def baseline_text(entries: Iterable[Known]) -> str:
    """The file: JSON, one finding a line."""
    lines = [
        "  " + json.dumps({"target": e.target, "check": e.check, "at": e.at, "status": e.status.value}) for e in entries
    ]
    body = "[\n" + ",\n".join(lines) + "\n ]" if lines else "[]"
    return f'{{\n "schema_version": {SCHEMA_VERSION},\n "findings": {body}\n}}\n'
