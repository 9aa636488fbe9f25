"""Every key of a configuration, the file that is nearest, and what is refused, with the exact line."""

import datetime
import re
from pathlib import Path

import pytest

from nncheck.config import Accept, Config, config_for
from nncheck.config.reading import ACCEPT_KEYS, KEYS
from nncheck.errors import UsageError

WHOLE = """\
targets = ["models/*.py", "train.py:build"]
exclude = ["models/old_*.py"]
select = ["init", "shuffle"]
ignore = ["saturation"]
fail-on = "warn"
budget = 90
seed = 7

[level]
class-balance = "fail"
dead-relu = "warn"

[[accept]]
check = "dead-relu"
place = "encoder.*"
target = "models/big.py"
reason = "sparse on purpose,   see notes.md"
until = 2027-01-31

[[accept]]
check = "shuffle"
reason = "a curriculum"
until = "2027-02-28"

[checklist]
metric = "checked by hand"
"""


def written(folder: Path, text: str, name: str = "nncheck.toml") -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return config_for(str(folder / "model.py"))


def test_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = written(tmp_path, WHOLE)
    assert config == Config(
        path=tmp_path / "nncheck.toml",
        targets=("models/*.py", "train.py:build"),
        exclude=("models/old_*.py",),
        select=("init", "shuffle"),
        ignore=("saturation",),
        fail_on="warn",
        budget=90.0,
        seed=7,
        level={"class-balance": "fail", "dead-relu": "warn"},
        accept=(
            Accept(
                check="dead-relu",
                place="encoder.*",
                target="models/big.py",
                reason="sparse on purpose, see notes.md",
                until=datetime.date(2027, 1, 31),
                source="nncheck.toml:13",
            ),
            Accept(check="shuffle", reason="a curriculum", until=datetime.date(2027, 2, 28), source="nncheck.toml:20"),
        ),
        checklist={"metric": "checked by hand"},
        sources=config.sources,
    )
    assert config.sources["fail-on"] == "nncheck.toml:5"
    assert config.sources["level.dead-relu"] == "nncheck.toml:11"


def test_pyproject_says_the_same_below_tool_nncheck(tmp_path: Path) -> None:
    text = WHOLE.replace("[level]", "[tool.nncheck.level]").replace("[[accept]]", "[[tool.nncheck.accept]]")
    text = "[tool.nncheck]\n" + text.replace("[checklist]", "[tool.nncheck.checklist]")
    shared, own = written(tmp_path / "a", text, "pyproject.toml"), written(tmp_path / "b", WHOLE)
    for key in ("targets", "select", "fail_on", "level", "checklist"):
        assert getattr(shared, key) == getattr(own, key)
    assert [entry.source.rpartition(":")[2] for entry in shared.accept] == ["14", "21"]


def test_the_nearest_file_is_taken_alone_and_its_own_before_the_shared_one(tmp_path: Path) -> None:
    written(tmp_path, "seed = 1\nbudget = 5\n")
    inner = tmp_path / "project"
    written(inner, '[project]\nname = "p"\n', "pyproject.toml")
    deep = inner / "src" / "models"
    deep.mkdir(parents=True)
    assert config_for(str(deep / "a.py")).seed == 1
    written(inner, "[tool.nncheck]\nseed = 2\n", "pyproject.toml")
    assert config_for(str(deep / "a.py:build")).seed == 2
    assert config_for(str(deep / "a.py")).budget is None
    written(inner, "seed = 3\n")
    assert config_for(str(deep / "a.py")).seed == 3
    assert config_for(str(inner / "src")).seed == 3


def test_a_module_is_looked_up_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "seed = 4\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert config_for("package.module:build").seed == 4
    assert config_for(".").seed == 4


def test_no_file_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nselect = 3\n")
    assert config_for(str(tmp_path / "a.py")) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# x\nselekt = []", "2: unknown key 'selekt'; did you mean 'select'?"),
        ('\n"fail_on" = "warn"', "2: unknown key 'fail_on'; did you mean 'fail-on'?"),
        ("budget = 3\nverbose = true", "2: unknown key 'verbose'; known are targets, exclude, select"),
        ('select = [\n  "init", # "lern"\n  "lerning",\n]', "3: no check or stage is called 'lerning'; did you mean 'learning'?"),
        ('ignore = ["dead-rely"]', "1: no check or stage is called 'dead-rely'; did you mean 'dead-relu'?"),
        ('select = "init"', "1: select is a list of texts, not 'init'"),
        ("select = []", "1: select is empty"),
        ('exclude = [\n "a.py",\n 3]', "3: exclude is a list of texts, but holds 3"),
        ('targets = [\n\n""]', "3: targets is a list of texts, but holds ''"),
        ('fail-on = "error"', '1: fail-on is "fail", "warn" or "never", not \'error\''),
        ('fail-on = "warning"', "1: .*did you mean 'warn'?"),
        ("fail-on = true", "1: fail-on is .*not True"),
        ("budget = 0", "1: budget is a time in seconds above 0, not 0"),
        ("seed = 1\nbudget = -2.5", "2: budget is a time in seconds above 0"),
        ("budget = nan", "1: budget is a time in seconds above 0"),
        ("budget = true", "1: budget is a time"),
        ('budget = "60"', "1: budget is a time in seconds above 0, not '60'"),
        ("seed = 1.5", "1: seed is a whole number, not 1.5"),
        ("seed = false", "1: seed is a whole number"),
        ("level = 3", "1: level is a table of checks, not 3"),
        ('[level]\n# dead\ndead-relu = "off"', "3: the level of dead-relu is .*not 'off'; ignore = .*leaves it out"),
        ('[level]\n"class-balanc" = "warn"', "2: no check is called 'class-balanc'; did you mean 'class-balance'?"),
        ('level.init = "warn"', "1: 'init' is a stage; name one of its checks"),
        ('level = { shuffle = "warn", dead-relu = 1 }', '1: the level of dead-relu is "fail" or "warn", not 1'),
        ('accept = "shuffle"', r"1: each accepted finding is a table of its own, under \[\[accept\]\]"),
        ('[accept]\ncheck = "shuffle"', r"1: each accepted finding is a table of its own"),
        ('[checklist]\nmetrc = "x"', r"2: unknown key 'metrc' in \[checklist\]; did you mean 'metric'?"),
        ('select = ["init"\n', "the file is not valid TOML"),
        ('seed = 1\nseed = 2\n', "2: the file is not valid TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"nncheck\.toml:{says}" if says[0].isdigit() else says):
        written(tmp_path, text)


ENTRY = '[[accept]]\ncheck = "shuffle"\nreason = "r"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'{ENTRY}# reason = ""\n[[accept]]\ncheck = "shuffle"\n\nreason = " "', "8: a reason is needed"),
        (f'{ENTRY}\n[[accept]] # 2\ncheck = "dead-relu"', "5: this entry of accept needs a reason"),
        ('[[accept]]\nreason = "r"', "1: this entry of accept needs a check"),
        ('[[accept]]\ncheck = "shufle"\nreason = "r"', "2: no check is called 'shufle'; did you mean 'shuffle'?"),
        ('[[accept]]\ncheck = 3\nreason = "r"', "2: no check is called 3"),
        ('[[accept]]\ncheck = "data"\nreason = "r"', "2: 'data' is a stage; name one of its checks"),
        ('[[accept]]\ncheck = "shuffle"\nreason = """\n"""\nuntil = 2027-01-01', "3: a reason is needed"),
        ('[[accept]]\ncheck = "shuffle"\nreason = ["r"]', "3: a reason is needed"),
        (f'{ENTRY}places = ["a"]', r"4: unknown key 'places' in \[accept\]; did you mean 'place'?"),
        (f'{ENTRY}place = ["a"]', "4: place is a text"),
        (f'{ENTRY}target = ""', "4: target is a text"),
        (f'{ENTRY}until = "31.1.2027"', "4: until is a day such as 2027-01-31, not '31.1.2027'"),
        (f'{ENTRY}until = "2027-02-30"', "4: until is a day"),
        (f"{ENTRY}until = 2027", "4: until is a day such as 2027-01-31, not 2027"),
        (
            'accept = [\n { check = "shuffle", reason = "r" },\n { check = "shuffle", reason = "r", untill = 2027-01-01 },\n]',
            r"3: unknown key 'untill' .*did you mean 'until'?",
        ),
    ],
)
def test_an_acceptance_that_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"nncheck\.toml:{says}"):
        written(tmp_path, text)


def test_lines_of_a_shared_file_count_from_its_top(tmp_path: Path) -> None:
    text = (
        '[project]\nname = "p"\n\n[tool.nncheck]\nseed = 1\n[[tool.nncheck.accept]]\ncheck = "shuffle"\nreason = ""\n'
    )
    with pytest.raises(UsageError, match=r"pyproject\.toml:8: a reason is needed"):
        written(tmp_path, text, "pyproject.toml")
    with pytest.raises(
        UsageError, match=r"pyproject\.toml:2: unknown key 'sed' in \[tool\.nncheck\]; did you mean 'seed'"
    ):
        written(tmp_path, "[tool.nncheck]\nsed = 1\n", "pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject\.toml:2: tool\.nncheck is a table, not 3"):
        written(tmp_path, "[tool]\nnncheck = 3\n", "pyproject.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "nncheck.toml").write_bytes(b"seed = 1 # \xff")
    with pytest.raises(UsageError, match=r"nncheck\.toml cannot be read"):
        config_for(str(tmp_path / "a.py"))


def test_paths_are_told_as_a_person_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^sub/nncheck\.toml:1: "):
        written(tmp_path / "sub", "sed = 1\n")


def test_the_documentation_s_example_is_read_as_it_stands(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    text = "\n".join(block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[tool.nncheck" in block)
    config = written(tmp_path, text, "pyproject.toml")
    assert set(KEYS) - {key.partition(".")[0] for key in config.sources} == {"checklist"}
    assert {field for field in ACCEPT_KEYS if getattr(config.accept[0], field)} == set(ACCEPT_KEYS)
