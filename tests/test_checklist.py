"""The recipe's checklist: ticked by checks, by a person's notes in nncheck.toml, and never by mistake."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nncheck.checklist import ITEMS, PHASES, tick
from nncheck.cli import app
from nncheck.config import config_for
from nncheck.errors import UsageError
from nncheck.registry import catalogue
from nncheck.verdict import Status


def test_every_check_ticks_exactly_one_item() -> None:
    named = [id for item in ITEMS for id in item.checks]
    assert sorted(named) == sorted(entry.id for entry in catalogue())
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    assert [phase for phase in PHASES if any(item.phase == phase for item in ITEMS)] == list(PHASES)


def test_checks_tick_their_items() -> None:
    said = {
        "forward-pass": Status.PASS,
        "finite-values": Status.SKIP,
        "shuffle": Status.WARN,
        "checkpoint": Status.SKIP,
    }
    items = {item.id: item for item in tick(said, {})}
    assert items["runs"].done is True
    assert items["runs"].note == "checked by forward-pass"
    assert items["shuffled"].done is False
    assert items["shuffled"].note == "see shuffle"
    assert items["resumes"].done is None
    assert items["human-baseline"].done is False


def test_a_note_ticks_an_item(tmp_path: Path) -> None:
    (tmp_path / "nncheck.toml").write_text('[checklist]\nhuman-baseline = " 4.1 % wrong "\n')
    deep = tmp_path / "src" / "model"
    deep.mkdir(parents=True)
    config = config_for(str(deep / "model.py:build"))
    assert config.checklist == {"human-baseline": "4.1 % wrong"}
    items = {item.id: item for item in tick({}, config.checklist)}
    assert items["human-baseline"].done is True
    assert items["human-baseline"].note == "4.1 % wrong"


def test_pyproject_serves_too_and_the_nearest_file_wins(tmp_path: Path) -> None:
    (tmp_path / "nncheck.toml").write_text('[checklist]\nmetric = "far"\n')
    inner = tmp_path / "project"
    inner.mkdir()
    (inner / "pyproject.toml").write_text('[project]\nname = "p"\n')
    assert config_for(str(inner / "a.py")).checklist == {"metric": "far"}
    (inner / "pyproject.toml").write_text('[tool.nncheck.checklist]\nmetric = "near"\n')
    assert config_for(str(inner / "a.py")).checklist == {"metric": "near"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[checklst]\nmetric = "x"\n', r"toml:1: unknown key 'checklst'; did you mean 'checklist'"),
        (
            '[checklist]\n\nhuman-baselin = "x"\n',
            r"toml:3: unknown key 'human-baselin' .*did you mean 'human-baseline'",
        ),
        ("[checklist]\nmetric = true\n", r"toml:2: metric needs a note"),
        ('[checklist]\nmetric = " "\n', r"toml:2: metric needs a note"),
        ('[checklist]\nshuffled = "yes"\n', r"toml:2: 'shuffled' is ticked by shuffle, not by hand"),
        ("checklist = 3\n", r"toml:1: checklist is a table"),
        ("[checklist\n", r"is not valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "nncheck.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        config_for(str(tmp_path / "model.py"))
    answer = CliRunner().invoke(app, ["checklist", str(tmp_path / "model.py")])
    assert answer.exit_code == 2


def test_the_command_prints_every_item_with_its_tick(tmp_path: Path) -> None:
    (tmp_path / "nncheck.toml").write_text('[checklist]\nhuman-baseline = "4.1 % wrong"\n')
    answer = CliRunner().invoke(app, ["checklist", str(tmp_path / "model.py")])
    assert answer.exit_code == 0
    for item in ITEMS:
        assert item.text in answer.output
    assert any("[x] human-baseline" in line and "4.1 % wrong" in line for line in answer.output.splitlines())
    by_hand = sum(not item.checks for item in ITEMS)
    assert f"1 of {by_hand} items that only a person can tick are ticked" in answer.output


def test_a_result_ticks_what_its_checks_passed() -> None:
    golden = Path(__file__).parent / "golden" / "result.json"
    answer = CliRunner().invoke(app, ["checklist", "--result", str(golden)])
    assert answer.exit_code == 0
    assert "checked by forward-pass" in answer.output
    assert "see batch-mixing" in answer.output
