"""What is in force on the command line: the options first, then each target's configuration; and `nncheck config`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nncheck
from nncheck.cli import app
from nncheck.config import Config, config_for
from nncheck.config.settings import Given, selected_for, settings_for
from nncheck.errors import UsageError
from nncheck.registry import select

# Softmax before a loss that applies its own, and a layer that nothing wakes.
SICK = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
train_loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
with torch.no_grad():
    model[0].bias.fill_(-50.0)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
ASKED = '["double-softmax", "dead-relu"]'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.py").write_text(SICK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, dict[str, Any]]:
    saved = Path("result.json")
    saved.unlink(missing_ok=True)
    answer = CliRunner().invoke(app, ["run", "--no-report", "--json", str(saved), *arguments])
    return answer.exit_code, answer.output, json.loads(saved.read_text()) if saved.exists() else {}


def check(data: dict[str, Any], id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for t in data["targets"] for c in t["checks"] if c["id"] == id)
    return found


def test_a_run_without_a_target_runs_what_the_file_lists_under_its_rules(project: Path) -> None:
    (project / "nncheck.toml").write_text(f"""\
targets = ["models/*.py"]
select = {ASKED}
seed = 3
[level]
dead-relu = "warn"
[[accept]]
check = "double-softmax"
place = "criterion"
reason = "an old loss"
[[accept]]
check = "double-softmax"
place = "models/*.py"
reason = "kept as published"
until = 2999-12-31
[[accept]]
check = "dead-relu"
place = "decoder.*"
target = "models/a.py"
reason = "never there"
[[accept]]
check = "dead-relu"
reason = "over"
until = "2020-01-01"
""")
    code, output, data = run()
    assert (code, data["outcome"], data["verdict"]) == (0, "passed", "warn")
    assert [target["target"] for target in data["targets"]] == [str(Path("models/a.py"))]
    assert data["targets"][0]["findings"] == ["dead-relu"]
    assert data["environment"]["seed"] == "3"
    softmax, relu = check(data, "double-softmax"), check(data, "dead-relu")
    assert softmax["status"] == "fail"
    assert "kept as published (until 2999-12-31)" in softmax["accepted"]
    assert (relu["status"], relu["declared"]) == ("warn", "fail")
    assert data["notices"] == [
        "nncheck.toml:15: the acceptance of dead-relu at decoder.* in models/a.py matches nothing any more: "
        "dead-relu found something in other places only",
        "nncheck.toml:20: the acceptance of dead-relu ran out on 2020-01-01",
    ]
    assert "double-softmax         accepted: " in output
    assert "accepted[double-softmax]: " in output
    assert "level: set by the configuration; the check itself says fail" in output
    assert f"notice: {data['notices'][1]}" in output
    assert "1 warning, 1 accepted in " in output


def test_the_command_line_wins_over_the_file(project: Path) -> None:
    (project / "nncheck.toml").write_text('select = ["init"]\nignore = ["dead-relu"]\nfail-on = "never"\nseed = 3\n')
    code, _, data = run("models/a.py", "--select", "double-softmax", "--fail-on", "fail", "--seed", "5")
    assert [result["id"] for result in data["targets"][0]["checks"]] == ["double-softmax"]
    assert (code, data["fail_on"], data["environment"]["seed"]) == (1, "fail", "5")


def test_nncheck_check_follows_the_rules_of_the_working_directory(project: Path) -> None:
    (project / "nncheck.toml").write_text(
        '[level]\ndead-relu = "warn"\n[[accept]]\ncheck = "double-softmax"\nreason = "kept"\n'
        '[[accept]]\ncheck = "shuffle"\nreason = "none"\nuntil = 2020-01-01\n'
    )
    parts: dict[str, Any] = {}
    exec(SICK, parts)
    report = nncheck.check(
        parts["model"], parts["train_loader"], loss_fn=parts["criterion"], select=["double-softmax", "dead-relu"]
    )
    assert report.targets[0].findings == ("dead-relu",)
    assert report.targets[0].check("double-softmax").accepted == "kept"
    assert report.exit_code == 0
    assert report.notices == ("nncheck.toml:6: the acceptance of shuffle ran out on 2020-01-01",)
    assert "### Accepted" in report.to_markdown()
    assert "kept" in report.to_html()


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        ([], None, "no TARGET is named, and there is no nncheck.toml here or above"),
        ([], "seed = 1", "lists none; `nncheck run model.py`, or add there: targets = "),
        ([], 'targets = ["mod/*.py"]', "nncheck.toml:1: no Python file matches 'mod/*.py'"),
        (["models/a.py"], 'slect = ["init"]', "nncheck.toml:1: unknown key 'slect'; did you mean 'select'?"),
        (["--select", "shuffel"], 'targets = ["models/a.py"]', "no check or stage is called 'shuffel'; did you mean"),
        (["--select", "dead-relu", "models/a.py"], 'ignore = ["init"]', "nncheck.toml:1 ignores init; --ignore takes"),
        (["--budget", "0"], 'targets = ["models/a.py"]', "--budget 0: a time above 0 s is needed"),
        (["--", "--epochs", "3"], 'targets = ["models/a.py"]', "what follows -- belongs to one script"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_run(
    project: Path, arguments: list[str], text: str | None, says: str
) -> None:
    if text is not None:
        (project / "nncheck.toml").write_text(text)
    code, output, data = run(*arguments)
    assert (code, data) == (2, {})
    assert says in output


def configs(folder: Path, *texts: str) -> tuple[Config, ...]:
    for n, text in enumerate(texts):
        (folder / f"p{n}").mkdir()
        (folder / f"p{n}" / "nncheck.toml").write_text(text)
    return tuple(config_for(str(folder / f"p{n}" / "a.py")) for n in range(len(texts)))


def test_two_files_that_differ_need_a_word_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    both = configs(tmp_path, "seed = 1\nbudget = 60", "seed = 2\nbudget = 60.0")
    with pytest.raises(
        UsageError, match=r"differ in seed: 1 \(p0/nncheck.toml:1\), 2 \(p1/nncheck.toml:1\); say --seed on"
    ):
        settings_for(both, Given())
    settings = settings_for(both, Given(seed=5))
    assert (settings.seed, settings.budget, settings.fail_on) == (5, 60.0, "fail")
    with pytest.raises(UsageError, match=r"differ in budget: 60.0 \(p0/nncheck.toml:2\), 600.0 \(no configuration\)"):
        settings_for((both[0], Config()), Given(seed=1))


def test_a_file_that_says_the_default_does_not_differ(tmp_path: Path) -> None:
    assert settings_for((*configs(tmp_path, "seed = 0"), Config()), Given()).seed == 0


def test_each_target_has_its_own_checks(tmp_path: Path) -> None:
    one, other = configs(tmp_path, 'select = ["init"]\nignore = ["symmetry"]', 'ignore = ["data"]')
    assert selected_for(one, Given()) == select(("init",), ("symmetry",))
    assert selected_for(other, Given()) == select((), ("data",))
    assert selected_for(one, Given(select=("data", "symmetry"))) == select(("data",), ())
    assert selected_for(one, Given(ignore=())) == select(("init",), ())
    assert selected_for(one, Given(select=(), ignore=("data",))) == select((), ("data",))


def test_nncheck_config_says_what_is_in_force_and_where_it_came_from(project: Path) -> None:
    (project / "nncheck.toml").write_text("""\
targets = ["models/*.py"]
budget = 90
[level]
dead-relu = "warn"
[[accept]]
check = "shuffle"
place = "loader"
reason = "a curriculum"
until = 2020-01-01
[checklist]
metric = "by hand"
""")
    answer = CliRunner().invoke(app, ["config"])
    assert answer.exit_code == 0
    assert answer.output.splitlines() == [
        "configuration: nncheck.toml",
        f"targets    nncheck.toml:1   {Path('models/a.py')}",
        "exclude    default          none",
        f"select     default          all {len(select((), ()))} checks",
        "ignore     default          none",
        "fail-on    default          fail",
        "budget     nncheck.toml:2   90 s",
        "seed       default          0",
        "level      nncheck.toml:4   dead-relu: warn",
        "accept     nncheck.toml:5   shuffle at loader: a curriculum (until 2020-01-01, which has passed)",
        "checklist  nncheck.toml:10  1 ticked: metric",
    ]
    rows = json.loads(CliRunner().invoke(app, ["config", "models/a.py", "--json"]).output)["in_force"]
    assert {"key": "budget", "from": "nncheck.toml:2", "value": 90.0} in rows
    assert {"key": "seed", "from": "default", "value": 0} in rows


def test_nncheck_config_without_a_file_and_with_a_wrong_one(project: Path) -> None:
    answer = CliRunner().invoke(app, ["config"])
    assert answer.output.startswith("configuration: no nncheck.toml and no [tool.nncheck] here or above")
    (project / "nncheck.toml").write_text("sed = 1")
    answer = CliRunner().invoke(app, ["config"])
    assert answer.exit_code == 2
    assert "nncheck.toml:1: unknown key 'sed'; did you mean 'seed'?" in answer.output


def test_a_configuration_is_read_without_torch(project: Path) -> None:
    import subprocess

    (project / "nncheck.toml").write_text(f'targets = ["models/*.py"]\nselect = {ASKED}\n[level]\nshuffle = "warn"\n')
    code = "import sys, nncheck.cli\nsys.argv = ['nncheck', 'config']\nassert nncheck.cli.main() == 0\n"
    code += "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
