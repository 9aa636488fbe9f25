"""A configuration's table to a `Config`; what cannot be meant is refused with its file and line."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

from nncheck.checklist import ITEMS
from nncheck.config.model import Accept, Config, FailOn, Level
from nncheck.config.positions import Path as Key, positions
from nncheck.errors import UsageError
from nncheck.observe.source import shown
from nncheck.registry import catalogue
from nncheck.verdict import Stage

KEYS = (
    "targets", "exclude", "select", "ignore", "fail-on", "budget", "seed", "level", "accept", "checklist",
)  # fmt: skip
ACCEPT_KEYS = ("check", "place", "target", "reason", "until")
FAIL_ON = ("fail", "warn", "never")
LEVELS = ("fail", "warn")


@dataclass(frozen=True)
class Reading:
    """A file that is being read. root: the keys above the configuration's own table."""

    path: Path
    text: str
    root: Key

    @cached_property
    def _lines(self) -> Mapping[Key, int]:
        return positions(self.text)

    def at(self, key: Key) -> str:
        """`nncheck.toml:3`, where a key or an item stands."""
        line = self._lines.get((*self.root, *key))
        return shown(str(self.path)) if line is None else f"{shown(str(self.path))}:{line}"

    def refuse(self, key: Key, message: str) -> NoReturn:
        raise UsageError(f"{self.at(key)}: {message}")


def read_config(table: Any, file: Reading) -> Config:
    """The whole table. Raises UsageError, with file and line, for the first thing in it that cannot be meant."""
    _known(table, (), KEYS, file)
    sources = {key: file.at((key,)) for key in table}
    for key in ("targets", "exclude", "select", "ignore"):
        texts = _texts(table, key, file)
        sources |= {f"{key}.{n}": file.at((key, n)) for n in range(len(texts))}
    level = _level(table.get("level", {}), file)
    return Config(
        path=file.path,
        targets=_texts(table, "targets", file),
        exclude=_texts(table, "exclude", file),
        select=_names(table, "select", file),
        ignore=_names(table, "ignore", file),
        fail_on=cast(FailOn | None, _word(table, "fail-on", FAIL_ON, file)),
        budget=_budget(table, file),
        seed=_seed(table, file),
        level=level,
        accept=_accepts(table.get("accept", []), file),
        checklist=_checklist(table.get("checklist", {}), file),
        sources=sources | {f"level.{id}": file.at(("level", id)) for id in level},
    )


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def _known(table: Any, key: Key, keys: tuple[str, ...], file: Reading) -> None:
    where = ".".join(part for part in (*file.root, *key) if isinstance(part, str))
    if not isinstance(table, dict):
        file.refuse(key, f"{where} is a table, not {table!r}")
    for name in table:
        if name not in keys:
            # An option's spelling, or the underscore of Python's.
            hint = did_you_mean(name.replace("_", "-").lstrip("-"), keys, f"known are {', '.join(keys)}")
            file.refuse((*key, name), f"unknown key {name!r}{f' in [{where}]' if where else ''}; {hint}")


def _texts(table: Mapping[str, Any], key: str, file: Reading) -> tuple[str, ...]:
    given = table.get(key, [])
    if not isinstance(given, list):
        file.refuse((key,), f"{key} is a list of texts, not {given!r}")
    for n, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            file.refuse((key, n), f"{key} is a list of texts, but holds {text!r}")
    if key in table and not given and key != "ignore":
        file.refuse((key,), f"{key} is empty; leave the key out instead")
    return tuple(given)


def _names(table: Mapping[str, Any], key: str, file: Reading) -> tuple[str, ...]:
    names = _texts(table, key, file)
    if names:
        known = [entry.id for entry in catalogue()] + [str(stage) for stage in Stage]
        for n, name in enumerate(names):
            if name not in known:
                hint = did_you_mean(name, known, "`nncheck list` shows them all")
                file.refuse((key, n), f"no check or stage is called {name!r}; {hint}")
    return names


def _word(table: Mapping[str, Any], key: str, known: tuple[str, ...], file: Reading) -> str | None:
    word = table.get(key)
    if word is not None and word not in known:
        hint = did_you_mean(word, known, "") if isinstance(word, str) else ""
        file.refuse((key,), f"{key} is {_either(known)}, not {word!r}{'; ' if hint else ''}{hint}")
    return cast(str | None, word)


def _either(words: tuple[str, ...]) -> str:
    return ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'


def _budget(table: Mapping[str, Any], file: Reading) -> float | None:
    value = table.get("budget")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        file.refuse(("budget",), f"budget is a time in seconds above 0, not {value!r}")
    return float(value)


def _seed(table: Mapping[str, Any], file: Reading) -> int | None:
    value = table.get("seed")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        file.refuse(("seed",), f"seed is a whole number, not {value!r}")
    return value


def _check(id: Any, key: Key, file: Reading) -> str:
    known = [entry.id for entry in catalogue()]
    if id in [str(stage) for stage in Stage]:
        file.refuse(key, f"{id!r} is a stage; name one of its checks")
    if id not in known:
        hint = did_you_mean(str(id), known, "`nncheck list` shows them all")
        file.refuse(key, f"no check is called {id!r}; {hint}")
    return cast(str, id)


def _level(table: Any, file: Reading) -> Mapping[str, Level]:
    if not isinstance(table, dict):
        file.refuse(("level",), f"level is a table of checks, not {table!r}")
    for id, level in table.items():
        _check(id, ("level", id), file)
        if level not in LEVELS:
            off = f'; ignore = ["{id}"] leaves it out' if level in ("off", "ignore", "skip", "none", False) else ""
            file.refuse(("level", id), f"the level of {id} is {_either(LEVELS)}, not {level!r}{off}")
    return cast(Mapping[str, Level], table)


def _accepts(entries: Any, file: Reading) -> tuple[Accept, ...]:
    if not isinstance(entries, list):
        header = ".".join((*map(str, file.root), "accept"))
        file.refuse(("accept",), f"each accepted finding is a table of its own, under [[{header}]]")
    return tuple(_accept(entry, ("accept", n), file) for n, entry in enumerate(entries))


def _accept(entry: Any, key: Key, file: Reading) -> Accept:
    _known(entry, key, ACCEPT_KEYS, file)
    for name in ("check", "reason"):
        if name not in entry:
            what = "which check's finding it is" if name == "check" else "why the finding is accepted"
            file.refuse(key, f"this entry of accept needs a {name}: {what}")
    _check(entry["check"], (*key, "check"), file)
    for name in ("place", "target", "reason"):
        text = entry.get(name, "any")
        if not isinstance(text, str) or not text.strip():
            needed = "a reason is needed: why the finding is accepted" if name == "reason" else f"{name} is a text"
            file.refuse((*key, name), f"{needed}, not {text!r}")
    return Accept(
        check=entry["check"],
        reason=" ".join(entry["reason"].split()),
        place=entry.get("place", ""),
        target=entry.get("target", ""),
        until=_date(entry.get("until"), (*key, "until"), file),
        source=file.at(key),
    )


def _date(value: Any, key: Key, file: Reading) -> datetime.date | None:
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%d").date()
    except (TypeError, ValueError):
        file.refuse(key, f"until is a day such as 2027-01-31, not {value!r}")


def _checklist(notes: Any, file: Reading) -> Mapping[str, str]:
    _known(notes, ("checklist",), tuple(item.id for item in ITEMS), file)
    checks = {item.id: item.checks for item in ITEMS}
    for id, note in notes.items():
        key = ("checklist", id)
        if checks[id]:
            file.refuse(key, f"{id!r} is ticked by {', '.join(checks[id])}, not by hand")
        if not isinstance(note, str) or not note.strip():
            file.refuse(key, f'{id} needs a note on what was done, e.g. {id} = "done by ..., found ..."')
    return {id: note.strip() for id, note in notes.items()}
