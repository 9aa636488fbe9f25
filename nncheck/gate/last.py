"""What failed in the last run, for `--last-failed`: a small file in the project's cache folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nncheck.report.identity import target_key
from nncheck.verdict import Report, Status

FILE = "last-failed.json"


def last_failed(folder: Path) -> dict[str, frozenset[str]]:
    """By target, the checks that found something or could not tell when it was last asked; empty if nothing is remembered."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {str(target): frozenset(map(str, ids)) for target, ids in data["targets"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # a memory that is lost is no reason to stop: everything is asked then


def remembered(report: Report, before: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """The memory after a run: a check that was not asked is as it was."""
    after = dict(before)
    for target in report.targets:
        asked = {result.id for result in target.checks if result.status is not Status.SKIP}
        bad = {result.id for result in target.checks if result.is_finding or result.status is Status.ERROR}
        key = target_key(target)
        after[key] = (after.get(key, frozenset()) - asked) | bad
    return {target: ids for target, ids in after.items() if ids}


def last_failed_text(memory: Mapping[str, frozenset[str]]) -> str:
    """The file's text."""
    return json.dumps({"targets": {target: sorted(ids) for target, ids in sorted(memory.items())}}, indent=1) + "\n"
