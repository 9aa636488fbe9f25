"""Random numbers in a line of code, on it or in the locals that it reads."""

from pathlib import Path

import pytest

from nncheck.observe.drawn import drawn_at
from nncheck.verdict import Place

_BODY = {
    "on the line": ("self.a = torch.randn(3)", True),
    "in a local before it": ("start = 0.7 * torch.randn(3)\n    self.a = start", True),
    "through two locals": ("start = torch.rand(3)\n    twice = 2 * start\n    self.a = twice + 1", True),
    "under a condition": ("start = torch.randn(3)\n    if kept:\n        self.a = start", True),
    "nothing random": ("start = torch.arange(3)\n    self.a = start", False),
    "a local that was written over": ("start = torch.randn(3)\n    start = torch.ones(3)\n    self.a = start", False),
    "another local": ("other = torch.randn(3)\n    start = torch.ones(3)\n    self.a = start", False),
    "with a generator": ("start = torch.randn(3, generator=g)\n    self.a = start", False),
    "after a seed of its own": ("torch.manual_seed(1)\n    start = torch.randn(3)\n    self.a = start", False),
    "only the shape of it": ("out = self.net(torch.randn(3))\n    n = out.shape[0]\n    self.a = torch.ones(n)", False),
    "ones like it": ("start = torch.randn(3)\n    self.a = torch.ones_like(start)", False),
    "a drawing after it": ("start = torch.ones(3)\n    self.a = start\n    start = torch.randn(3)", False),
}


@pytest.mark.parametrize("name", _BODY)
def test_a_line_that_sets_an_attribute(name: str, tmp_path: Path) -> None:
    body, drawn = _BODY[name]
    file = tmp_path / "net.py"
    file.write_text(f"def __init__(self, kept=True):\n    {body}\n")
    lines = file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "self.a = " in line)
    place = Place(name="a", file=str(file), line=number, source=lines[number - 1].strip())
    assert drawn_at(place) is drawn


def test_without_a_source_nothing_is_said() -> None:
    assert not drawn_at(Place(name="a"))
