"""Lines of keys and items in TOML, whatever stands around them: every path that tomllib reads has its line."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from nncheck.config.positions import Path, positions

HARD = '''\
# [accept] in a comment, targets = ["x"]
title = "a = 'b' # no comment"
"quoted.key" = 1
'single "quoted"' = 2
a.b . "c d" = 3
targets = [ # why not
  "one", "two",   # ] and three
  # "never"

  """four
lines
""", 'its',
  [1, 2,
   3],
]
when = 2027-01-31 07:32:00
point = { x = 1, "y z" = { deep = [ { w = 1 }, { w = 2 } ] }, last = """
}""" } # end
text = \'\'\'
[not.a.table]
targets = 3
quote \'\'\'\'
escaped = """ \\""" still """"

[tool . nncheck]
seed = 3

[[tool.nncheck.accept]]
check = "dead-relu"
[[ tool.nncheck."accept" ]]   # the second
check = "shuffle"
  [tool.nncheck.accept.more]
  reason = "x"
[[tool.nncheck.accept]]
[tool.nncheck.accept.more]
reason = "y"
[tool.other]
'''


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from paths(inner, (*path, n))


def line_of(text: str, needle: str, nth: int = 0) -> int:
    return [n for n, line in enumerate(text.splitlines(), 1) if needle in line][nth]


def test_everything_that_is_read_has_a_line() -> None:
    wanted, found = set(paths(tomllib.loads(HARD))), positions(HARD)
    assert wanted - set(found) == set()
    assert set(found) - wanted == set()


@pytest.mark.parametrize(
    ("path", "needle", "nth"),
    [
        (("title",), "title", 0),
        (("quoted.key",), "quoted.key", 0),
        (('single "quoted"',), "single", 0),
        (("a", "b", "c d"), "a.b", 0),
        (("targets",), "targets = [ #", 0),
        (("targets", 1), '"one", "two"', 0),
        (("targets", 2), '"""four', 0),
        (("targets", 3), "'its'", 0),
        (("targets", 4, 2), "   3],", 0),
        (("when",), "when", 0),
        (("point", "y z", "deep", 1, "w"), "point", 0),
        (("point", "last"), "point", 0),
        (("escaped",), "escaped", 0),
        (("tool", "nncheck", "seed"), "seed", 0),
        (("tool", "nncheck", "accept"), "[[tool.nncheck.accept]]", 0),
        (("tool", "nncheck", "accept", 0), "[[tool.nncheck.accept]]", 0),
        (("tool", "nncheck", "accept", 1), "# the second", 0),
        (("tool", "nncheck", "accept", 1, "check"), '"shuffle"', 0),
        (("tool", "nncheck", "accept", 1, "more", "reason"), 'reason = "x"', 0),
        (("tool", "nncheck", "accept", 2, "more", "reason"), 'reason = "y"', 0),
        (("tool", "other"), "[tool.other]", 0),
    ],
)
def test_the_line_is_the_key_s_own(path: Path, needle: str, nth: int) -> None:
    assert positions(HARD)[path] == line_of(HARD, needle, nth)


def test_this_repository_s_own_file() -> None:
    from pathlib import Path as File

    text = (File(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    found = positions(text)
    assert set(paths(tomllib.loads(text))) == set(found)
    assert found["project", "name"] == line_of(text, "name =")


@pytest.mark.parametrize(
    "text", ["", "\n\n# only this", "a=1", "[a]", "a = []\nb = {}\n", "a = [[], [{}], ]\n", '"" = 1']
)
def test_short_files(text: str) -> None:
    assert set(paths(tomllib.loads(text))) == set(positions(text))
