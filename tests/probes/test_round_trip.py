"""Saving and loading, on models and optimizers whose losses are known; and what was loaded before."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nncheck import Recipe
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.loads import likeness, loads_of, noting_loads
from nncheck.probes.round_trip import RoundTrip, round_trip
from nncheck.target.assemble import assemble
from tests.cases.checkpoint import CLASSES, FEATURES, Centred, Counting, Forgetting, _recipe

assert round_trip


def _trip(recipe: Recipe) -> RoundTrip:
    torch.manual_seed(0)
    return Evidence(Sandbox(assemble(recipe), device=torch.device("cpu"))).get(RoundTrip)


def test_what_is_saved_comes_back_to_the_last_bit() -> None:
    found = _trip(_recipe(Centred()))
    assert (found.outputs, found.update, found.loss, found.noise) == (0.0, 0.0, 0.0, 0.0)
    assert not found.lost


def test_a_plain_tensor_is_lost_and_named_at_its_line() -> None:
    found = _trip(_recipe(Forgetting()))
    assert found.outputs > 1e-3
    assert found.noise == 0.0
    assert [(item.name, item.kind) for item in found.lost] == [("mean", "tensor")]
    assert found.lost[0].place.line is not None


def test_what_every_pass_changes_is_no_loss() -> None:
    found = _trip(_recipe(Counting()))
    assert found.update == 0.0
    assert not found.lost


class Following(nn.Module):
    """A recurrent net; the training step hands its state on from batch to batch, as along one text."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(FEATURES, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        state = self.cell(x, state)
        return self.head(state), state


def test_a_state_that_the_training_step_keeps_is_no_loss_of_the_model() -> None:
    recipe = _recipe(Following())
    optimizer, kept = recipe.optimizer, dict[str, Tensor]()
    assert isinstance(optimizer, torch.optim.Optimizer)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        logits, state = model(batch[0], kept.get("state"))
        kept["state"] = state.detach()
        loss = nn.functional.cross_entropy(logits, batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    found = _trip(dataclasses.replace(recipe, loss_fn=None, train_step=train_step))
    assert found.update > 1e-3
    assert found.noise > found.update / 2  # the same again, with no state dict loaded


class Momentum(torch.optim.Optimizer):
    """Momentum, kept in the optimizer's state or beside it."""

    def __init__(self, parameters: Any, *, saved: bool) -> None:
        super().__init__(parameters, {"lr": 0.1})
        self.saved = saved
        self.buffers: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for index, p in enumerate(self.param_groups[0]["params"]):
            held = self.state[p].setdefault("held", torch.zeros_like(p)) if self.saved else None
            held = self.buffers.setdefault(index, torch.zeros_like(p)) if held is None else held
            p.sub_(held.mul_(0.9).add_(p.grad), alpha=0.1)


@pytest.mark.parametrize("saved", [True, False])
def test_an_optimizers_own_buffers(saved: bool) -> None:
    model = Centred()
    found = _trip(_recipe(model, optimizer=Momentum(model.parameters(), saved=saved)))
    assert found.outputs == 0.0
    assert (found.update == 0.0) is saved
    assert {item.name.partition("[")[0] for item in found.lost} == (set() if saved else {"optimizer.buffers"})


class Language(nn.Module):
    """An embedding and an output layer: one tensor, a copy, or two of their own."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(FEATURES, 8)
        self.embed = nn.Embedding(CLASSES, 8)
        self.head = nn.Linear(8, CLASSES, bias=False)
        if how in ("tied", "untied by loading"):
            self.head.weight = self.embed.weight
        if how == "copied":
            self.head.weight = nn.Parameter(self.embed.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) + self.embed((x[:, 0] > 0).long()))

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        result = super().load_state_dict(state_dict, strict)
        if self.how == "untied by loading":
            self.head.weight = nn.Parameter(state_dict["head.weight"].clone())
        return result


@pytest.mark.parametrize(
    ("how", "untied", "copies"),
    [("tied", 0, 0), ("untied by loading", 1, 0), ("copied", 0, 1), ("apart", 0, 0)],
)
def test_tied_weights(how: str, untied: int, copies: int) -> None:
    found = _trip(_recipe(Language(how)))
    assert (len(found.untied), len(found.copies)) == (untied, copies)


def test_a_loader_that_takes_nothing() -> None:
    class Prefixing(Centred):
        def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
            return super().load_state_dict({f"module.{n}": t for n, t in state_dict.items()}, strict=False)

    assert "first.weight" in _trip(_recipe(Prefixing())).untaken


def test_a_constant_that_is_drawn() -> None:
    class Projecting(Centred):
        def __init__(self) -> None:
            super().__init__()
            self.directions = torch.randn(FEATURES, FEATURES)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.sin(x @ self.directions))

    assert [place.name for place in _trip(_recipe(Projecting())).random] == ["directions"]


def test_loads_are_noted_and_compared() -> None:
    model, other = nn.Linear(8, 8), nn.Linear(8, 8)
    with noting_loads():
        model.load_state_dict(other.state_dict())
        other.load_state_dict({"module.weight": model.weight}, strict=False)
    assert [(name, load.given, load.matched) for name, _, load in loads_of(model)] == [("", 2, 2)]
    assert [(name, load.given, load.matched) for name, _, load in loads_of(other)] == [("", 1, 0)]
    load = next(load for _, _, load in loads_of(model))
    assert likeness(model, load) == pytest.approx(1.0)
    nn.init.xavier_uniform_(model.weight)
    assert abs(likeness(model, load)) < 0.5
    assert math.isnan(likeness(other, next(load for _, _, load in loads_of(other))))
    assert nn.Module.load_state_dict.__module__ == "torch.nn.modules.module"
