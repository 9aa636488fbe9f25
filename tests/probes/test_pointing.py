"""A finding that knows no line is shown where the part that it is about is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import nncheck
from nncheck.observe.pointing import pointed
from nncheck.observe.source import layer_place, place_at
from nncheck.recipe import PARTS, Recipe, Setup
from nncheck.registry import catalogue
from nncheck.target.assemble import assemble
from nncheck.verdict import Place, Verdict, failed, passed


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(x)
        return out

    def configure_optimizers(self) -> torch.optim.Optimizer:
        rate = 0.1
        return torch.optim.SGD(self.parameters(), lr=rate)


def _setup(model: nn.Module, **origins: Place) -> Setup:
    batches = [(torch.randn(8, 4), torch.randint(0, 2, (8,)))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = Recipe(model=model, train_loader=batches, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)
    return assemble(recipe, origins=origins)


def _spot(verdict: Verdict, part: str, setup: Setup) -> str:
    places = pointed(verdict, part, setup).places
    return f"{places[0].name}: {places[0].source}" if places else ""


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, 4),
            nn.Sequential(nn.ReLU(),
                nn.Linear(4, 5)),
        )  # fmt: skip
        self.items = nn.ModuleList([
            nn.Linear(4, 6),
            nn.Linear(4, 7),
        ])  # fmt: skip
        self.made = nn.Sequential(*(nn.Linear(4, 8) for _ in range(2)))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("body", "self.body = nn.Sequential("),
        ("body.0", "nn.Linear(3, 4),"),
        ("body.1.1.weight", "nn.Linear(4, 5)),"),
        ("items.1.bias", "nn.Linear(4, 7),"),
        ("made.1", "self.made = nn.Sequential(*(nn.Linear(4, 8) for _ in range(2)))"),
    ],
)
def test_a_layer_is_at_the_line_that_makes_it(name: str, line: str) -> None:
    assert layer_place(Nested(), name).source == line


FINDING = failed("bad", expected="good")


def test_at_the_line_that_makes_the_part_and_else_at_the_models_class(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "loader = make()\n\n\ndef optimizer(model):\n    rate = 1\n    return torch.optim.SGD(model, rate)\n"
    )
    loader = place_at("loader", str(file), 1)
    setup = _setup(Net(), train_loader=loader, optimizer=place_at("optimizer", str(file), 4))
    assert _spot(FINDING, "train_loader", setup) == "loader: loader = make()"
    assert _spot(FINDING, "val_loader", setup) == "loader: loader = make()"
    assert _spot(FINDING, "optimizer", setup) == "optimizer: return torch.optim.SGD(model, rate)"
    assert _spot(FINDING, "model", setup) == "Net: class Net(nn.Module):"
    assert _spot(FINDING, "loss_fn", setup) == "Net: class Net(nn.Module):"
    assert _spot(FINDING, "model", _setup(nn.Linear(4, 2), train_loader=loader)) == "loader: loader = make()"
    assert _spot(FINDING, "model", _setup(nn.Linear(4, 2))) == ""


def test_at_the_method_that_makes_it() -> None:
    assert _spot(FINDING, "optimizer", _setup(Net())) == "optimizer: return torch.optim.SGD(self.parameters(), lr=rate)"


def test_what_has_a_line_or_is_no_finding_stays_as_it_is() -> None:
    setup = _setup(Net())
    placed = dataclasses.replace(FINDING, places=(Place(name="a"), Place(name="b", file="x.py", line=3)))
    assert pointed(placed, "model", setup) is placed
    fine = passed("good")
    assert pointed(fine, "model", setup) is fine
    named = dataclasses.replace(FINDING, places=(Place(name="batch 3"),))
    assert [place.name for place in pointed(named, "model", setup).places] == ["Net", "batch 3"]


def test_checks_name_parts_that_there_are() -> None:
    assert {entry.part for entry in catalogue()} <= set(PARTS)


def test_a_call_of_the_api_is_the_line_where_no_other_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    x, y = torch.randn(96, 4), torch.arange(96) // 48
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    report = nncheck.check(nn.Linear(4, 2), loader, loss_fn=nn.CrossEntropyLoss(), select=["shuffle"])
    (place,) = report.targets[0].check("shuffle").verdict.places
    assert (place.file, place.name) == ("test_pointing.py", "nncheck.check")
    assert place.source is not None
    assert place.source.startswith("report = nncheck.check(")
    assert report.folder.endswith("tests/probes")
