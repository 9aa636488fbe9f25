"""`nncheck race`: the same start and batches for all, a table, a picture, JSON, and an end in time."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from nncheck import Recipe
from nncheck.cli import app
from nncheck.lab.sandbox import Sandbox
from nncheck.race import ENTRANTS, OWN, Lane, Race, judge, run_race
from nncheck.target.assemble import assemble
from nncheck.verdict import Curve, Status, Table

SETUP = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 4)
model = nn.Linear(4, 2)
train_loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=32, shuffle=True)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
"""


def _sandbox(optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, *, deadline: float = math.inf) -> Sandbox:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 4, generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    batches = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    recipe = Recipe(
        model=model, train_loader=batches, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer(model.parameters(), lr=0.1),  # type: ignore[call-arg]
    )  # fmt: skip
    return Sandbox(assemble(recipe), device=torch.device("cpu"), deadline=deadline)


def test_everyone_starts_from_the_same_place_and_the_users_objects_are_as_before() -> None:
    sandbox = _sandbox()
    before = [p.detach().clone() for p in sandbox.model.parameters()]
    race = run_race(sandbox, steps=4)
    assert race.finished
    assert race.kept_back
    assert len(race.lanes) == 1 + sum(len(entrant.rates) for entrant in ENTRANTS)
    assert len({lane.losses[0] for lane in race.lanes}) == 1
    assert {lane.name for lane in race.lanes} == {OWN, *(entrant.name for entrant in ENTRANTS)}
    assert all(torch.equal(a, b) for a, b in zip(before, sandbox.model.parameters(), strict=True))


def test_the_users_own_run_is_that_of_the_same_optimizer_in_the_race() -> None:
    race = run_race(_sandbox(), steps=6)
    own, same = race.lanes[0], next(lane for lane in race.lanes if (lane.name, lane.rate) == ("SGD", 0.1))
    assert own.losses == same.losses
    assert own.end == same.end


def test_adam_then_sgd_is_adam_for_the_first_half() -> None:
    race = run_race(_sandbox(), steps=8)
    lanes = {(lane.name, lane.rate): lane for lane in race.lanes}
    adam, both = lanes["Adam", 1e-3], lanes["Adam, then SGD", 1e-3]
    assert both.losses[:5] == adam.losses[:5]  # the loss before the fifth update is the last that Adam alone decides
    assert both.losses[6:] != adam.losses[6:]


def test_a_closure_of_the_users_own_runs() -> None:
    assert math.isfinite(run_race(_sandbox(torch.optim.LBFGS), steps=2).lanes[0].end)


def test_a_race_that_runs_out_of_time_is_judged_as_far_as_it_got() -> None:
    sandbox = _sandbox()
    told: list[Lane] = []

    def stop(lane: Lane) -> None:
        told.append(lane)
        if len(told) == 3:
            sandbox.deadline = 0.0

    race = run_race(sandbox, steps=3, told=stop)
    assert not race.finished
    assert len(race.lanes) == 3
    assert "the time was up after 3 of 31 runs" in judge(race).measured


def _lane(name: str, rate: float, end: float) -> Lane:
    return Lane(name=name, rate=rate, label=f"{name}, {rate:g}", losses=(2.0, 1.0, end), end=end)


def test_the_best_rate_of_each_counts_and_what_diverged_is_last() -> None:
    lanes = (
        _lane(OWN, 0.1, 0.7), _lane("SGD", 0.1, 0.9), _lane("Adam", 1e-3, 0.6), _lane("SGD", 1.0, 0.5),
        _lane("RMSprop", 0.1, math.nan),
    )  # fmt: skip
    race = Race(steps=3, kept_back=True, samples=64, start=2.0, lanes=lanes, finished=True)
    verdict = judge(race)
    table, curve = verdict.exhibits
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ["SGD", "Adam", OWN, "RMSprop"]
    assert table.rows[0][2] == "1"
    assert table.rows[-1][3] == "diverged"
    assert "place 3 of 4" in verdict.measured
    assert isinstance(curve, Curve)
    assert len(curve.lines) == 3


def test_nobody_who_got_anywhere_is_a_skip() -> None:
    race = Race(steps=3, kept_back=True, samples=64, start=2.0, lanes=(_lane(OWN, 1.0, math.nan),), finished=True)
    assert judge(race).status is Status.SKIP


def test_the_command_prints_a_table_and_writes_a_page_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.py").write_text(SETUP, encoding="utf-8")
    done = CliRunner().invoke(app, ["race", "setup.py", "--steps", "3", "--json", "out.json"])
    assert done.exit_code == 0, done.output
    assert "place  optimizer" in done.stdout
    assert "favours fast starters" in done.stdout
    assert "Adadelta" in (tmp_path / "nncheck-race.html").read_text(encoding="utf-8")
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (check,) = result["targets"][0]["checks"]
    assert check["id"] == "race"
    assert check["exhibits"][0]["kind"] == "table"


def test_what_cannot_be_raced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(app, ["race", "nowhere.py"])
    assert missing.exit_code == 2
    assert "nowhere.py" in missing.output
    (tmp_path / "setup.py").write_text(SETUP, encoding="utf-8")
    assert CliRunner().invoke(app, ["race", "setup.py", "--steps", "1"]).exit_code == 2
