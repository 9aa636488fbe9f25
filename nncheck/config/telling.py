"""What is in force for a target and where each value came from, as text and as data."""

from __future__ import annotations

import datetime
from typing import Any

from nncheck.config.model import Accept, Config
from nncheck.config.settings import DEFAULT_BUDGET, DEFAULT_FAIL_ON, DEFAULT_SEED
from nncheck.config.targets import listed
from nncheck.observe.source import shown
from nncheck.registry import catalogue

DEFAULT = "default"


def in_force(config: Config) -> list[tuple[str, str, Any]]:
    """Every key with where its value came from and the value, an item a row where each has a place of its own.

    Raises UsageError for a target that does not exist and a glob that matches nothing.
    """
    source = config.sources
    rows: list[tuple[str, str, Any]] = []

    def tell(key: str, value: Any, default: Any) -> None:
        given = key in source
        rows.append((key, source[key] if given else DEFAULT, value if given else default))

    tell("targets", list(listed(config)), [])
    tell("exclude", list(config.exclude), [])
    tell("select", list(config.select), ["all"])
    tell("ignore", list(config.ignore), [])
    tell("fail-on", config.fail_on, DEFAULT_FAIL_ON)
    tell("budget", config.budget, DEFAULT_BUDGET)
    tell("seed", config.seed, DEFAULT_SEED)
    rows += [("level", source[f"level.{id}"], {id: level}) for id, level in config.level.items()]
    rows += [("accept", entry.source, _entry(entry)) for entry in config.accept]
    rows += [("checklist", source["checklist"], dict(config.checklist))] if config.checklist else []
    return rows


def _entry(entry: Accept) -> dict[str, str]:
    parts = {"check": entry.check, "place": entry.place, "target": entry.target, "reason": entry.reason}
    until = "" if entry.until is None else entry.until.isoformat()
    return {name: text for name, text in (parts | {"until": until}).items() if text}


def config_lines(config: Config) -> list[str]:
    """`fail-on  nncheck.toml:4  warn`, in columns. Raises UsageError as `in_force`."""
    where = "no nncheck.toml and no [tool.nncheck] here or above" if config.path is None else shown(str(config.path))
    rows = [(key, source, _text(key, value)) for key, source, value in in_force(config)]
    first, second = (max(len(row[n]) for row in rows) for n in (0, 1))
    return [f"configuration: {where}", *(f"{key:{first}}  {source:{second}}  {text}" for key, source, text in rows)]


def config_data(config: Config) -> dict[str, Any]:
    """The same for programs."""
    rows = [{"key": key, "from": source, "value": value} for key, source, value in in_force(config)]
    return {"file": None if config.path is None else shown(str(config.path)), "in_force": rows}


def _text(key: str, value: Any) -> str:
    if key == "select" and value == ["all"]:
        return f"all {len(catalogue())} checks"
    if key == "budget":
        return f"{value:g} s"
    if key == "level":
        return ", ".join(f"{id}: {level}" for id, level in value.items())
    if key == "accept":
        place = f" at {value['place']}" if "place" in value else ""
        target = f" in {value['target']}" if "target" in value else ""
        over = ", which has passed" if value.get("until", "9999") < datetime.date.today().isoformat() else ""
        until = f" (until {value['until']}{over})" if "until" in value else ""
        return f"{value['check']}{place}{target}: {value['reason']}{until}"
    if key == "checklist":
        return f"{len(value)} ticked: {', '.join(value)}"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
