"""The result as JSON and back, `schema_version` 1.

Fields are added freely and never change their meaning; reading keeps to what it knows and passes over the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

from nncheck.report.exhibits import exhibit_from_dict, exhibit_to_dict, plain_number
from nncheck.verdict import (
    SCHEMA_VERSION,
    Against,
    ChecklistItem,
    CheckResult,
    Cost,
    Doc,
    Place,
    Remedy,
    Report,
    Stage,
    Status,
    TargetResult,
    Verdict,
)


def to_json(report: Report) -> str:
    """One object, ending in a newline. ASCII only, so that no console, proxy or lone surrogate can spoil it."""
    return json.dumps(to_dict(report), indent=1, allow_nan=False) + "\n"


def to_dict(report: Report) -> dict[str, Any]:
    """The result as plain, JSON-ready data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "nncheck_version": report.nncheck_version,
        "created": report.created,
        "outcome": report.outcome,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "fail_on": report.fail_on,
        "interrupted": report.interrupted,
        "environment": dict(report.environment),
        "folder": report.folder,
        "notices": list(report.notices),
        "baseline": None if report.baseline is None else _against(report, report.baseline),
        "cost": _cost(report.cost),
        "targets": [_target(target) for target in report.targets],
    }


def _against(report: Report, baseline: Against) -> dict[str, Any]:
    found = [result for target in report.targets for result in target.checks if result.is_finding]
    known = sum(result.known for result in found)
    return {
        "file": baseline.file,
        "new": len(found) - known,
        "known": known,
        "resolved": list(baseline.resolved),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "seconds": plain_number(cost.seconds),
        "train_steps": plain_number(cost.train_steps),
        "forward": plain_number(cost.forward),
        "backward": plain_number(cost.backward),
        "by_probe": {name: plain_number(steps) for name, steps in cost.by_probe.items()},
    }


def _target(target: TargetResult) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "target": target.target,
        "model": target.model,
        "parameters": target.parameters,
        "loss": target.loss,
        "optimizer": target.optimizer,
        "verdict": target.verdict,
        "seconds": plain_number(target.seconds),
        "findings": list(target.findings),
        "bound": list(target.bound),
        "notes": list(target.notes),
        "cost": _cost(target.cost),
        "checks": [_check(result) for result in target.checks],
        "checklist": [_item(item) for item in target.checklist],
    }
    if target.problem is not None:
        entry["problem"] = target.problem
    if target.cached:
        entry["cached"] = target.cached
    if target.set_up:
        entry["set_up"] = target.set_up
    if target.file:
        entry["file"] = target.file
    return entry


def _item(item: ChecklistItem) -> dict[str, Any]:
    entry = {"id": item.id, "phase": item.phase, "text": item.text, "done": item.done, "note": item.note}
    return entry | ({"checks": list(item.checks)} if item.checks else {})


def _check(result: CheckResult) -> dict[str, Any]:
    verdict = result.verdict
    entry: dict[str, Any] = {
        "id": result.id,
        "stage": result.stage.value,
        "status": result.status.value,
        "summary": result.summary,
        "measured": verdict.measured,
        "expected": verdict.expected,
        "numbers": {name: plain_number(value) for name, value in verdict.numbers.items()},
        "seconds": plain_number(result.seconds),
        "places": [_place(place) for place in verdict.places],
        "causes": list(verdict.causes),
        "remedies": [_remedy(remedy) for remedy in verdict.remedies],
        "exhibits": [exhibit_to_dict(exhibit) for exhibit in verdict.exhibits],
        "doc": {name: getattr(result.doc, name) for name in _DOC_FIELDS},
    }
    optional = {
        "why_skipped": verdict.why_skipped,
        "near": verdict.near or None,
        "spread": {name: plain_number(value) for name, value in verdict.spread.items()} or None,
        "accepted": result.accepted or None,
        "accepted_places": [_place(place) for place in result.accepted_places] or None,
        "known": result.known or None,
        "declared": None if result.declared is None else result.declared.value,
    }
    return entry | {name: value for name, value in optional.items() if value is not None}


_DOC_FIELDS = ("title", "what", "why", "fix", "limits", "source")


def _place(place: Place) -> dict[str, Any]:
    optional = {name: getattr(place, name) for name in ("file", "line", "source", "column", "end_line", "end_column")}
    return {"name": place.name, "detail": place.detail} | {k: v for k, v in optional.items() if v is not None}


def _remedy(remedy: Remedy) -> dict[str, Any]:
    optional = {"code": remedy.code, "worked": remedy.worked, "measured": remedy.measured}
    return {"text": remedy.text, "tried": remedy.tried} | {k: v for k, v in optional.items() if v is not None}


def from_json(text: str) -> Report:
    """Read what `to_json` wrote. Raises ValueError, with the reason, if the text is no result."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not an nncheck result: not JSON ({error})") from error
    return from_dict(data)


def from_dict(data: Any) -> Report:
    """The report that `to_dict` was given. Raises ValueError, with the reason, if `data` is no result."""
    if not isinstance(data, Mapping) or "schema_version" not in data:
        raise ValueError("not an nncheck result: there is no schema_version")
    version = data["schema_version"]
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"not an nncheck result: schema_version is {version!r}")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"the result has schema_version {version}; this nncheck reads up to {SCHEMA_VERSION}: a newer one is needed"
        )
    try:
        return _read_report(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"not an nncheck result: {what}") from error


def _read_report(data: Mapping[str, Any]) -> Report:
    fail_on = data.get("fail_on", "fail")
    if fail_on not in ("fail", "warn", "never"):
        raise ValueError(f"fail_on is {fail_on!r}")
    baseline = data.get("baseline")
    return Report(
        nncheck_version=str(data.get("nncheck_version", "unknown")),
        created=str(data.get("created", "")),
        environment={str(name): str(value) for name, value in data.get("environment", {}).items()},
        targets=tuple(_read_target(entry) for entry in data["targets"]),
        seconds=float(data.get("cost", {}).get("seconds", 0.0)),
        fail_on=cast(Literal["fail", "warn", "never"], fail_on),
        interrupted=bool(data.get("interrupted", data.get("outcome") == "interrupted")),
        folder=str(data.get("folder", "")),
        notices=_strings(data.get("notices", ())),
        baseline=None
        if baseline is None
        else Against(file=str(baseline["file"]), resolved=_strings(baseline["resolved"])),
    )


def _read_cost(data: Mapping[str, Any]) -> Cost:
    return Cost(
        seconds=float(data.get("seconds", 0.0)),
        train_steps=float(data.get("train_steps", 0.0)),
        forward=float(data.get("forward", 0.0)),
        backward=float(data.get("backward", 0.0)),
        by_probe={str(name): float(steps) for name, steps in data.get("by_probe", {}).items()},
    )


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"a list is needed, not {type(values).__name__}")
    return tuple(str(value) for value in values)


def _read_target(data: Mapping[str, Any]) -> TargetResult:
    problem = data.get("problem")
    return TargetResult(
        target=str(data["target"]),
        model=str(data.get("model", "")),
        parameters=int(data.get("parameters", 0)),
        loss=str(data.get("loss", "")),
        optimizer=str(data.get("optimizer", "")),
        bound=_strings(data.get("bound", ())),
        notes=_strings(data.get("notes", ())),
        checks=tuple(_read_check(entry) for entry in data["checks"]),
        findings=_strings(data.get("findings", ())),
        seconds=float(data.get("seconds", 0.0)),
        cost=_read_cost(data.get("cost", {})),
        checklist=tuple(_read_item(entry) for entry in data.get("checklist", ())),
        problem=None if problem is None else str(problem),
        cached=str(data.get("cached", "")),
        set_up=str(data.get("set_up", "")),
        file=str(data.get("file", "")),
    )


def _read_item(data: Mapping[str, Any]) -> ChecklistItem:
    done = data.get("done")
    return ChecklistItem(
        id=str(data["id"]),
        phase=str(data.get("phase", "")),
        text=str(data.get("text", "")),
        checks=_strings(data.get("checks", ())),
        done=None if done is None else bool(done),
        note=str(data.get("note", "")),
    )


def _read_check(data: Mapping[str, Any]) -> CheckResult:
    doc = data.get("doc", {})
    why_skipped = data.get("why_skipped")
    exhibits = (exhibit_from_dict(entry) for entry in data.get("exhibits", ()))
    summary, measured = str(data.get("summary", "")), str(data.get("measured", ""))
    verdict = Verdict(
        status=Status(data["status"]),
        measured=measured,
        expected=str(data.get("expected", "")),
        # `summary` is written filled in; what only repeats another field is left empty again.
        summary="" if summary == (why_skipped or measured) else summary,
        numbers=_numbers(data, "numbers"),
        spread=_numbers(data, "spread"),
        places=tuple(_read_place(entry) for entry in data.get("places", ())),
        causes=_strings(data.get("causes", ())),
        remedies=tuple(_read_remedy(entry) for entry in data.get("remedies", ())),
        exhibits=tuple(exhibit for exhibit in exhibits if exhibit is not None),
        why_skipped=None if why_skipped is None else str(why_skipped),
        near=str(data.get("near", "")),
    )
    declared = data.get("declared")
    return CheckResult(
        id=str(data["id"]),
        stage=Stage(data["stage"]),
        verdict=verdict,
        seconds=float(data.get("seconds", 0.0)),
        doc=Doc(**{name: str(doc.get(name, "")) for name in _DOC_FIELDS}),
        accepted=str(data.get("accepted", "")),
        accepted_places=tuple(_read_place(entry) for entry in data.get("accepted_places", ())),
        known=bool(data.get("known")),
        declared=None if declared is None else Status(declared),
    )


def _read_place(data: Mapping[str, Any]) -> Place:
    return Place(
        name=str(data.get("name", "")),
        file=_optional(data, "file"),
        line=_integer(data, "line"),
        detail=str(data.get("detail", "")),
        source=_optional(data, "source"),
        column=_integer(data, "column"),
        end_line=_integer(data, "end_line"),
        end_column=_integer(data, "end_column"),
    )


def _read_remedy(data: Mapping[str, Any]) -> Remedy:
    worked = data.get("worked")
    return Remedy(
        text=str(data.get("text", "")),
        code=_optional(data, "code"),
        tried=bool(data.get("tried")),
        worked=None if worked is None else bool(worked),
        measured=_optional(data, "measured"),
    )


def _numbers(data: Mapping[str, Any], key: str) -> dict[str, float]:
    return {str(name): float(value) for name, value in data.get(key, {}).items()}


def _integer(data: Mapping[str, Any], key: str) -> int | None:
    value = data.get(key)
    return None if value is None else int(value)


def _optional(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return None if value is None else str(value)
