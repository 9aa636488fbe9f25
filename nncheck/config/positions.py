"""On which line of a TOML file each key and each item stands: `tomllib` gives values alone, and a message names the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'')
_LONG = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}', re.DOTALL)
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PLAIN = re.compile(r"[^,\]}#\n]+")


def positions(text: str) -> Mapping[Path, int]:
    """The line, from 1, of everything in a text that `tomllib` has read: ("accept", 1, "reason") is the second entry's reason.

    A table counts from its first header, or from its first key where it has none; an array's item from its own line.
    """
    reader = _Reader(text)
    reader.read()
    return reader.lines


class _Reader:
    """Walks over valid TOML; values are passed over, only where they begin is kept."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.lines: dict[Path, int] = {}

    def read(self) -> None:
        table: Path = ()
        counts: dict[Path, int] = {}
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                many = self._text.startswith("[[", self._at)
                line = self._line()
                self._at += 2 if many else 1
                table = self._in_last(self._key(), counts)
                for n in range(1, len(table)):
                    self._keep(table[:n], line)
                if many:
                    counts[table] = counts.get(table, -1) + 1
                    self._keep(table, line)
                    table = (*table, counts[table])
                self._keep(table, line)
                self._at = self._text.index("]", self._at) + (2 if many else 1)
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _in_last(self, key: Path, counts: Mapping[Path, int]) -> Path:
        """The path of a header: below an array of tables it means the last table of it."""
        path: Path = ()
        for n, part in enumerate(key, 1):
            path = (*path, part)
            if path in counts and n < len(key):
                path = (*path, counts[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = (*table, *self._key())
        for n in range(len(table) + 1, len(path) + 1):
            self._keep(path[:n], line)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _key(self) -> Path:
        parts: list[str | int] = []
        while True:
            self._skip(re.compile(r"[ \t]*"))
            quoted = _QUOTED.match(self._text, self._at)
            if quoted is not None:
                parts.append(tomllib.loads(f"key = {quoted.group()}")["key"])
                self._at = quoted.end()
            else:
                parts.append(self._skip(_BARE))
            self._skip(re.compile(r"[ \t]*"))
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        first = self._text[self._at]
        if first == "[":
            self._items(path)
        elif first == "{":
            self._inline(path)
        elif first in "\"'":
            long = _LONG.match(self._text, self._at)
            self._at = long.end() if long is not None else self._at
            if long is None:
                self._skip(_QUOTED)
        else:
            self._skip(_PLAIN)

    def _items(self, path: Path) -> None:
        self._at += 1
        n = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                break
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._keep((*path, n), self._line())
            self._value((*path, n))
            n += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                break
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _keep(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
