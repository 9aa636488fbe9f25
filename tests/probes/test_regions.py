"""What is meant at a line: the class, the call or the value that begins there, to its end."""

from pathlib import Path

import pytest

from nncheck.observe.regions import region_of
from nncheck.observe.source import place_at

SOURCE = """\
class Net(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(512, 10)
        self.body = nn.Sequential(
            nn.Linear(3, 4),
            nn.ReLU(),
        )
        größe, x = make("ä"), 3
    @property
    async def size(self): return len(self.fc.weight)
    def forward(self, x):
        y = x.relu() + self.fc(x)
        for layer in self.layers:
            pass
        with torch.no_grad():
            total += layer(x)
        return {
            "loss": F.mse_loss(x, y),
            "x": x,
        }
optimizer = (
    torch.optim.Adam(net.parameters())
)
if __name__ == "__main__":
    main()
else:
    x.y = 3
"""

EXPECTED = {
    1: "Net",
    2: "__init__",
    3: "nn.Linear(512, 10)",
    4: "nn.Sequential(\n            nn.Linear(3, 4),\n            nn.ReLU(),\n        )",
    5: "nn.Linear(3, 4)",
    8: 'make("ä"), 3',
    9: "property",
    10: "size",
    12: "x.relu() + self.fc(x)",
    13: "self.layers",
    14: "pass",
    15: "torch.no_grad()",
    16: "layer(x)",
    17: '{\n            "loss": F.mse_loss(x, y),\n            "x": x,\n        }',
    18: "F.mse_loss(x, y)",
    19: '"x"',
    20: "}",
    21: "optimizer = (\n    torch.optim.Adam(net.parameters())\n)",
    22: "torch.optim.Adam(net.parameters())",
    24: '__name__ == "__main__"',
    26: "else:",
    27: "3",
}


def _meant(file: Path, line: int) -> str:
    """The text of the region."""
    region = region_of(str(file), line)
    assert region is not None
    lines = file.read_text(encoding="utf-8").split("\n")[line - 1 : region.end_line]
    lines[-1] = lines[-1][: region.end_column - 1]
    lines[0] = lines[0][region.column - 1 :]
    return "\n".join(lines)


@pytest.mark.parametrize("line", EXPECTED)
def test_what_begins_on_a_line(line: int, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(SOURCE, encoding="utf-8")
    assert _meant(file, line) == EXPECTED[line]


def test_every_line_of_any_source_has_a_region_that_begins_on_it() -> None:
    file = Path(__file__)
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        region = region_of(str(file), number)
        if not text.strip():
            assert region is None
            continue
        assert region is not None
        assert 1 <= region.column <= len(text)
        assert (region.end_line, region.end_column) > (number, region.column)


def test_a_file_that_is_no_python_has_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("%matplotlib inline\n    x = = 3\n")
    assert _meant(file, 2) == "x = = 3"
    assert region_of(str(file), 3) is None
    assert region_of(str(tmp_path / "none.py"), 1) is None


def test_a_place_has_its_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("x = 1\nnet = Net(\n    3)\n")
    place = place_at("net", "net.py", 2)
    assert (place.file, place.line, place.column, place.end_line, place.end_column) == ("net.py", 2, 7, 3, 7)
    assert place.source == "net = Net("
