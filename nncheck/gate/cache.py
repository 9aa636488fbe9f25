"""Results that are believed again: of a target of which nothing has changed that its run had read.

Kept in `.nncheck_cache`, a file for each question (target, arguments, checks, seed, ...), and only of a run that was whole: no
error, no check left for want of time. What a configuration says of findings is no part of it and is applied afresh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nncheck.gate.folder import cache_folder, make_cache_folder
from nncheck.gate.inputs import Unreadable, changed
from nncheck.gate.surroundings import surroundings
from nncheck.report.json import from_dict, to_dict
from nncheck.verdict import Report, Status, TargetResult

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Hit:
    """What was found: the results of a target's run, what surrounded it, and when it was."""

    results: tuple[TargetResult, ...]
    environment: dict[str, str]
    since: str


class Cache:
    """The results in the working directory's repository. `environment`: the variables as the command was given them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._surroundings = surroundings(environment)

    def find(self, question: Mapping[str, Any]) -> Hit | str:
        """The results of an earlier run that are still true; else why there are none, in words; "" if there never were any."""
        try:
            body = _read(self._file(question))
            if body["format"] != FORMAT or body["question"] != json.loads(json.dumps(question)):
                return "what was kept of it cannot be read"
            for name, said in self._surroundings.items():
                if body["surroundings"].get(name) != said:
                    return name
            what = changed(body["inputs"], self._environment)
            if what is not None:
                return what
            report = from_dict(body["report"])
            results = tuple(
                _with_roots(dataclasses.replace(target, cached=report.created), body["follows"])
                for target in report.targets
            )
            return Hit(results=results, environment=dict(report.environment), since=report.created)
        except FileNotFoundError:
            return ""
        except Unreadable as error:
            return str(error)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return "what was kept of it cannot be read"

    def keep(
        self,
        question: Mapping[str, Any],
        results: Sequence[TargetResult],
        *,
        environment: Mapping[str, str],
        inputs: Mapping[str, Any],
        created: str,
    ) -> str:
        """Write the results down; why they cannot be believed again, if they cannot."""
        why = _not_whole(results)
        if not why and surroundings(self._environment) != self._surroundings:
            why = "nncheck or the installed packages changed meanwhile"
        if why:
            return why
        report = Report(
            nncheck_version="", created=created, environment=dict(environment), targets=tuple(results), seconds=0.0
        )
        body = {
            "format": FORMAT,
            "question": dict(question),
            "surroundings": self._surroundings,
            "inputs": dict(inputs),
            "report": to_dict(report),
            "follows": {r.id: list(r.verdict.follows) for t in results for r in t.checks if r.verdict.follows},
        }
        try:
            _write(self._file(question), body)
        except OSError as error:
            return f"{cache_folder()} cannot be written: {error.strerror or error}"
        return ""

    def recall(self, name: str) -> dict[str, Any]:
        """What `remember` was given under this name by the same nncheck with the same packages; empty if there is nothing."""
        try:
            body = _read(self._file({"name": name}))
            if body["by"] == self._makers():
                return dict(body["what"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}
        return {}

    def remember(self, name: str, what: Mapping[str, Any]) -> None:
        """Keep what can be made again but takes time. A folder that cannot be written is no reason to fail."""
        with contextlib.suppress(OSError):
            _write(self._file({"name": name}), {"by": self._makers(), "what": dict(what)})

    def _makers(self) -> list[str]:
        return [self._surroundings["nncheck"], self._surroundings["the installed packages"]]

    def _file(self, question: Mapping[str, Any]) -> Path:
        return cache_folder() / f"{_digest(dict(question))[:32]}.json"


def local_time(since: str) -> str:
    """`2026-11-21 12:00`, where the reader is."""
    try:
        return f"{datetime.datetime.fromisoformat(since).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return since


def _not_whole(results: Sequence[TargetResult]) -> str:
    """Why a run says less than it would with more time or luck."""
    if not results:
        return "it did not come to its end"
    for target in results:
        if target.problem is not None:
            return "it could not be used"
        for result in target.checks:
            if result.status is Status.ERROR:
                return f"{result.id} could not tell"
            if "time budget" in (result.verdict.why_skipped or "") or result.verdict.why_skipped == "interrupted":
                return "its time ran out"
    return ""


def _with_roots(target: TargetResult, follows: Mapping[str, Sequence[str]]) -> TargetResult:
    """What a result's file does not hold: of which findings these are consequences here."""
    checks = tuple(
        dataclasses.replace(r, verdict=dataclasses.replace(r.verdict, follows=tuple(follows.get(r.id, ()))))
        for r in target.checks
    )
    return dataclasses.replace(target, checks=checks)


def _read(file: Path) -> Any:
    """What `_write` wrote. Raises ValueError for anything else."""
    entry = json.loads(file.read_text(encoding="utf-8"))
    if entry["digest"] != _digest(entry["body"]):
        raise ValueError("not as it was written")
    return entry["body"]


def _write(file: Path, body: Any) -> None:
    """Whole or not at all, whoever else writes it."""
    make_cache_folder()
    body = json.loads(json.dumps(body))
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps({"digest": _digest(body), "body": body}), encoding="utf-8")
    part.replace(file)


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
