"""What a project says in `nncheck.toml`, or under `[tool.nncheck]` in its `pyproject.toml`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nncheck.checklist import ITEMS
from nncheck.errors import UsageError

FILE = "nncheck.toml"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is in force for a target. path: the file it was read from; None if there is none.

    checklist: a person's notes on the items that only a person can tick, by item.
    """

    path: Path | None = None
    checklist: Mapping[str, str] = field(default_factory=dict)


def config_for(target: str) -> Config:
    """The configuration nearest to a target: in the folder of its file or of the working directory, or above.

    Raises UsageError, with the line, for a file that cannot be read, an unknown key or a value of the wrong kind.
    """
    name = target.partition(":")[0]
    start = Path(name).absolute()
    for folder in [start.parent if start.suffix in (".py", ".ipynb") else Path.cwd(), *start.parents]:
        own, shared = folder / FILE, folder / "pyproject.toml"
        if own.is_file():
            return _read(own, _table(own))
        if shared.is_file():
            table = _table(shared).get("tool", {}).get("nncheck")
            if table is not None:
                return _read(shared, table)
    return Config()


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _read(path: Path, table: Any) -> Config:
    _known(path, table, ("checklist",), "tool.nncheck" if path.name != FILE else "")
    notes = table.get("checklist", {})
    _known(path, notes, tuple(item.id for item in ITEMS), "checklist")
    checks = {item.id: item.checks for item in ITEMS}
    for id, note in notes.items():
        if checks[id]:
            raise UsageError(f"{_at(path, id)}: {id!r} is ticked by {', '.join(checks[id])}, not by hand")
        if not isinstance(note, str) or not note.strip():
            raise UsageError(
                f'{_at(path, id)}: {id} needs a note on what was done, e.g. {id} = "done by ..., found ..."'
            )
    return Config(path=path, checklist={id: note.strip() for id, note in notes.items()})


def _known(path: Path, table: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{_at(path, where.rpartition('.')[2])}: {where} is a table, not {table!r}")
    for key in table:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(keys)}"
            raise UsageError(f"{_at(path, key)}: unknown key {key!r}{f' in [{where}]' if where else ''}; {hint}")


def _at(path: Path, key: str) -> str:
    """`nncheck.toml:3`, the line on which a key stands first."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        bare = line.split("#")[0].replace('"', "").replace("'", "")
        if bare.strip().startswith(f"{key} ") or bare.strip().startswith(f"{key}=") or f"{key}]" in bare:
            return f"{path}:{number}"
    return str(path)
