"""The schedule followed: the rates are those of a real run, and the user's objects are as before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from nncheck import Recipe
from nncheck.errors import CannotMeasure
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.lr_schedule import LrSchedule, Part, lr_schedule
from nncheck.target.assemble import assemble


def _ask(optimizer: Any, scheduler: Any, **parts: Any) -> LrSchedule:
    recipe = Recipe(
        model=nn.Linear(2, 2),
        train_loader=[(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))] * 4,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        **parts,
    )
    return lr_schedule(Sandbox(assemble(recipe), device=torch.device("cpu")))


def _sgd() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.filterwarnings("ignore:Detected call")
def test_the_rates_are_those_of_a_real_run_and_all_is_put_back() -> None:
    optimizer = _sgd()
    scheduler = schedules.SequentialLR(
        optimizer, [schedules.LinearLR(optimizer, 0.1, total_iters=3), schedules.CosineAnnealingLR(optimizer, 7)], [3]
    )
    before = scheduler.state_dict()
    seen = _ask(optimizer, scheduler, epochs=10, scheduler_interval="epoch")
    assert scheduler.state_dict() == before
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert seen.rates[:10] == pytest.approx(rates, abs=0)
    assert seen.parts == (
        Part(kind="LinearLR", begin=0, length=3, length_name="total_iters"),
        Part(kind="CosineAnnealingLR", begin=3, length=7, length_name="T_max"),
    )
    assert (seen.batches, seen.epochs, seen.begun) == (4, 10, 0)


def test_an_end_is_noted_with_its_words() -> None:
    optimizer = _sgd()
    seen = _ask(optimizer, schedules.OneCycleLR(optimizer, 0.1, total_steps=20, cycle_momentum=False))
    assert seen.stops is not None
    assert seen.stops[0] == 20
    assert "total steps is 20" in seen.stops[1]


def test_the_group_that_is_highest_by_its_own_measure_counts() -> None:
    optimizer = torch.optim.SGD(
        [{"params": [nn.Parameter(torch.zeros(1))], "lr": 1e-3}, {"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}]
    )
    seen = _ask(optimizer, schedules.LambdaLR(optimizer, [lambda s: 1.0, lambda s: 0.1**s]))
    assert seen.relative[:3] == (1.0, 1.0, 1.0)
    assert seen.rates[1] == pytest.approx(0.1)


def test_another_optimizer_is_seen() -> None:
    assert _ask(_sgd(), schedules.StepLR(_sgd(), 3)).elsewhere


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [(None, "no scheduler"), (object(), "no step")],
)
def test_nothing_to_follow(scheduler: Any, words: str) -> None:
    with pytest.raises(CannotMeasure, match=words):
        _ask(_sgd(), scheduler)


def _steps_with_the_loss(scheduler: Any) -> Callable[..., Any]:
    def train_step(model: nn.Module, batch: Any) -> torch.Tensor:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        scheduler.step(loss.item())
        return loss

    return train_step


def test_what_a_plateau_is_fed_is_read_from_the_step() -> None:
    optimizer = _sgd()
    scheduler = schedules.ReduceLROnPlateau(optimizer, mode="max")
    seen = _ask(optimizer, scheduler, train_step=_steps_with_the_loss(scheduler))
    assert seen.plateau is not None
    assert (seen.plateau.mode, seen.plateau.fed) == ("max", "loss.item()")
    assert seen.plateau.place is not None
    assert "scheduler.step" in (seen.plateau.place.source or "")
