"""The configuration that is nearest to a target, read from its file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from nncheck.config.model import Config
from nncheck.config.reading import Reading, read_config
from nncheck.errors import UsageError
from nncheck.observe.source import shown

FILE = "nncheck.toml"
SHARED = "pyproject.toml"


def config_for(target: str) -> Config:
    """The configuration nearest to a target: in the folder of its file or of the working directory, or above.

    Raises UsageError, with file and line, for a file that cannot be read, an unknown key or a value that cannot be meant.
    """
    start = Path(target.partition(":")[0]).absolute()
    is_file = start.suffix in (".py", ".pyw", ".ipynb")
    folder = start.parent if is_file else start if start.is_dir() else Path.cwd()
    for above in [folder, *folder.parents]:
        own, shared = above / FILE, above / SHARED
        if own.is_file():
            return _read(own, ())
        if shared.is_file():
            config = _read(shared, ("tool", "nncheck"))
            if config.path is not None:
                return config
    return Config()


def _read(path: Path, table: tuple[str, ...]) -> Config:
    try:
        text = path.read_text(encoding="utf-8-sig")
        data: Any = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown(str(path))} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{shown(str(path))}:{line.group(1)}" if line else shown(str(path))
        raise UsageError(f"{where}: the file is not valid TOML: {error}") from error
    for key in table:
        if not isinstance(data, dict) or key not in data:
            return Config()
        data = data[key]
    return read_config(data, Reading(path=path, text=text, root=table))
