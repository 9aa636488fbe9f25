"""lr-schedule: tables of schedules that fit their run and that do not, and what is said of how they are bound."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from nncheck import Recipe
from nncheck.checks.learning._schedule_faults import read
from nncheck.checks.learning.lr_schedule import lr_schedule
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.step_events import Event
from nncheck.probes.first_step import FirstStep
from nncheck.probes.lr_schedule import LrSchedule, Part, Plateau, lr_schedule as probe
from nncheck.probes.training_loop import StepCall, TrainingLoop
from nncheck.target.assemble import assemble
from nncheck.verdict import Curve, Place, Status

STEP = FirstStep(
    loss=1.0, connected=True, batch="", output="", losses=("cross-entropy",), loss_place=None, bad_parameters=(),
    bad_layer=None, bad_gradients=(),
)  # fmt: skip
BATCHES, EPOCHS = 16, 20
UPDATES = BATCHES * EPOCHS


def _seen(rates: Callable[[int], float], **changes: Any) -> LrSchedule:
    steps = tuple(range(3 * UPDATES))
    values = tuple(float(rates(step)) for step in steps)
    made: dict[str, Any] = {
        "kind": "LambdaLR", "parts": (Part(kind="LambdaLR", begin=0),), "steps": steps, "rates": values,
        "relative": tuple(v / max(values) for v in values), "stops": None, "interval": "step", "epochs": EPOCHS,
        "batches": BATCHES, "begun": 0, "trained": False, "stateful": True, "elsewhere": False, "accumulates": False,
        "meant": max(values),
    }  # fmt: skip
    return LrSchedule(**{**made, **changes})


def _status(rates: Callable[[int], float], **changes: Any) -> Status:
    return lr_schedule(_seen(rates, **changes), STEP, None).status


@pytest.mark.parametrize(
    ("low_from", "status"),
    [(31, Status.FAIL), (32, Status.WARN), (79, Status.WARN), (80, Status.PASS), (UPDATES, Status.PASS)],
)
def test_a_rate_that_dies_early(low_from: int, status: Status) -> None:
    # The same numbers by epochs never fall, or fall too late to be a better reading only where low_from is past all epochs.
    assert _status(lambda s: 1.0 if s < low_from else 0.01, epochs=EPOCHS, batches=BATCHES) in (status, Status.FAIL)
    assert _status(lambda s: 1.0 if s < low_from else 0.011) is Status.PASS


@pytest.mark.parametrize(("zero_from", "quiet"), [(285, False), (288, True), (UPDATES, True)])
def test_a_tail_of_zeros(zero_from: int, quiet: bool) -> None:
    assert (_status(lambda s: float(s < zero_from)) is Status.PASS) is quiet


@pytest.mark.parametrize(
    ("length", "status"), [(160, Status.PASS), (190, Status.WARN), (500, Status.WARN), (1000, Status.FAIL)]
)
def test_a_warm_up_longer_than_half_of_the_run(length: int, status: Status) -> None:
    verdict = lr_schedule(_seen(lambda s: min(1.0, (s + 1) / length)), STEP, None)
    assert verdict.status is status


def test_a_first_epoch_at_zero() -> None:
    assert _status(lambda s: min(1.0, s / 5), interval="epoch") is Status.FAIL
    assert _status(lambda s: min(1.0, s / 5), interval="epoch", epochs=None) is Status.FAIL
    assert _status(lambda s: min(1.0, (s + 1) / 5), interval="epoch") is Status.PASS
    assert _status(lambda s: min(1.0, s / 5), interval="step") is Status.PASS
    assert _status(lambda s: min(1.0, s / 5), interval=None) is Status.PASS


def test_an_error_within_the_run() -> None:
    parts = (Part(kind="OneCycleLR", begin=0, length=100, length_name="total_steps"),)
    assert _status(lambda s: 1.0, stops=(100, "ValueError: too many"), parts=parts) is Status.FAIL
    assert _status(lambda s: 1.0, stops=(UPDATES - 1, "ValueError: too many")) is Status.PASS
    assert _status(lambda s: 1.0, stops=(100, "ValueError: too many"), epochs=None) is Status.PASS
    assert _status(lambda s: 1.0, stops=(10, "ValueError: too many"), epochs=None) is Status.FAIL
    assert _status(lambda s: 1.0, stops=(100, "ValueError: too many"), accumulates=True) is Status.PASS


def test_what_was_stepped_before_the_training() -> None:
    assert _status(lambda s: 0.9, begun=3, meant=1.0) is Status.WARN
    assert _status(lambda s: 0.9, begun=3, meant=1.0, trained=True) is Status.PASS
    assert _status(lambda s: 0.9, begun=3, meant=1.0, stateful=False) is Status.PASS
    assert _status(lambda s: 0.001, begun=300, meant=1.0) is Status.FAIL
    assert _status(lambda s: 0.001, begun=0, meant=1.0) is Status.PASS  # a lambda that gives the rate itself


def test_a_scheduler_of_another_optimizer() -> None:
    assert _status(lambda s: 1.0, elsewhere=True) is Status.FAIL


@pytest.mark.parametrize(
    ("mode", "fed", "losses", "status"),
    [
        ("max", "val_loss", ("cross-entropy",), Status.FAIL),
        ("max", "-val_loss", ("cross-entropy",), Status.PASS),
        ("max", "val_acc", ("mse",), Status.PASS),
        ("min", "val_acc", ("cross-entropy",), Status.FAIL),
        ("min", "1 - val_acc", ("cross-entropy",), Status.PASS),
        ("min", "val_loss", ("mse",), Status.PASS),
        ("max", "", ("cross-entropy",), Status.PASS),
        ("max", "", ("mse",), Status.WARN),
        ("max", "", (), Status.PASS),
        ("min", "", ("mse",), Status.PASS),
    ],
)
def test_the_direction_of_a_plateau(mode: str, fed: str, losses: tuple[str, ...], status: Status) -> None:
    seen = _seen(lambda s: 1.0, plateau=Plateau(mode=mode, fed=fed, place=None))
    assert lr_schedule(seen, dataclasses.replace(STEP, losses=losses), None).status is status


def _unrolled(make: Callable[[Any], Any], interval: str | None, epochs: int | None = EPOCHS) -> LrSchedule:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    recipe = Recipe(
        model=model, train_loader=[(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))] * BATCHES,
        loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, scheduler=make(optimizer), scheduler_interval=interval,
        epochs=epochs,
    )  # fmt: skip
    return probe(Sandbox(assemble(recipe), device=torch.device("cpu")))


FIT: dict[str, tuple[Callable[[Any], Any], str | None, int | None]] = {
    "drops by ten": (lambda o: schedules.StepLR(o, 30), "epoch", 90),
    "a step size beyond the run": (lambda o: schedules.StepLR(o, 30), "epoch", 20),
    "three drops": (lambda o: schedules.MultiStepLR(o, [60, 120, 160], 0.2), "epoch", 200),
    "slow decay": (lambda o: schedules.ExponentialLR(o, 0.95), "epoch", 200),
    "slow decay by updates": (lambda o: schedules.ExponentialLR(o, 0.99), "step", 20),
    "cosine by epochs": (lambda o: schedules.CosineAnnealingLR(o, EPOCHS), None, 20),
    "cosine by updates": (lambda o: schedules.CosineAnnealingLR(o, UPDATES), None, 20),
    "cosine a little short": (lambda o: schedules.CosineAnnealingLR(o, 18), "epoch", 20),
    "restarts": (lambda o: schedules.CosineAnnealingWarmRestarts(o, 5), "epoch", 20),
    "restarts in the middle of a cycle": (lambda o: schedules.CosineAnnealingWarmRestarts(o, 8), "epoch", 20),
    "one cycle": (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=UPDATES), None, 20),
    "triangles": (lambda o: schedules.CyclicLR(o, 0.001, 0.1, 40, cycle_momentum=False), "step", 20),
    "warm-up in a chain": (
        lambda o: schedules.ChainedScheduler([schedules.LinearLR(o, 0.1, 1, 4), schedules.ExponentialLR(o, 0.9)]), "epoch", 20,
    ),
    "of unknown length": (lambda o: schedules.CosineAnnealingLR(o, 10), None, None),
    "linear to zero": (lambda o: schedules.PolynomialLR(o, EPOCHS), "epoch", 20),
}  # fmt: skip

UNFIT: dict[str, tuple[Callable[[Any], Any], str | None, int | None]] = {
    "drops after batches": (lambda o: schedules.StepLR(o, 10), "step", 20),
    "decay after batches": (lambda o: schedules.ExponentialLR(o, 0.9), "step", 20),
    "slow decay after batches": (lambda o: schedules.ExponentialLR(o, 0.95), "step", 20),
    "decay after batches, length unknown": (lambda o: schedules.ExponentialLR(o, 0.9), "step", None),
    "milestones after batches": (lambda o: schedules.MultiStepLR(o, [10, 15]), "step", 20),
    "cosine of epochs after batches": (lambda o: schedules.CosineAnnealingLR(o, EPOCHS), "step", 20),
    "cosine of updates after epochs": (lambda o: schedules.CosineAnnealingLR(o, UPDATES), "epoch", 20),
    "cosine too short": (lambda o: schedules.CosineAnnealingLR(o, 10), None, 20),
    "one cycle too short": (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=100), "step", 20),
    "one cycle after epochs": (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=UPDATES), "epoch", 20),
    "one cycle twice too long": (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=2 * UPDATES), None, 20),
    "restarts that end at the top": (lambda o: schedules.CosineAnnealingWarmRestarts(o, 6), "epoch", 20),
    "five epochs by default": (lambda o: schedules.PolynomialLR(o), "epoch", 20),
}


@pytest.mark.parametrize("name", FIT)
def test_schedules_that_fit_pass_with_their_curve(name: str) -> None:
    verdict = lr_schedule(_unrolled(*FIT[name]), STEP, None)
    assert verdict.status is Status.PASS, verdict
    assert isinstance(verdict.exhibits[0], Curve)


@pytest.mark.parametrize("name", UNFIT)
def test_schedules_that_do_not_fit_are_told(name: str) -> None:
    verdict = lr_schedule(_unrolled(*UNFIT[name]), STEP, None)
    assert verdict.status in (Status.FAIL, Status.WARN), verdict
    assert verdict.remedies


@pytest.mark.parametrize(
    ("make", "unit"),
    [
        (lambda o: schedules.StepLR(o, 10), "epoch"),
        (lambda o: schedules.CosineAnnealingLR(o, EPOCHS), "epoch"),
        (lambda o: schedules.CosineAnnealingLR(o, UPDATES), "update"),
        (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=UPDATES), "update"),
        (lambda o: schedules.LambdaLR(o, lambda s: min(1.0, s / 50)), "update"),
    ],
)
def test_how_often_it_is_stepped_follows_from_its_form(make: Callable[[Any], Any], unit: str) -> None:
    assert read(_unrolled(make, None)) == (unit, True, None)


def _loop(calls: int, schedules: int) -> TrainingLoop:
    event = Event(kind="schedule", place=Place(name="train_step", file="train.py", line=9))
    made = tuple(
        StepCall(
            events=(event,) if index % max(1, calls // max(1, schedules)) == 0 and schedules else (),
            losses=(), entered_training=True, size=16, forwards=1, rate=0.1,
        )
        for index in range(calls)
    )  # fmt: skip
    return TrainingLoop(given=True, calls=made)


def test_a_training_step_that_steps_the_scheduler_decides_the_unit() -> None:
    drops = _unrolled(lambda o: schedules.StepLR(o, 8), None)
    assert lr_schedule(drops, STEP, None).status is Status.PASS
    assert lr_schedule(drops, STEP, _loop(8, 0)).status is Status.PASS
    found = lr_schedule(drops, STEP, _loop(8, 8))
    assert found.status is Status.FAIL
    assert found.places[0].line == 9
    # A schedule as long as the updates, of which there is one in four batches.
    accumulated = _unrolled(lambda o: schedules.OneCycleLR(o, 0.1, total_steps=UPDATES // 4), "step")
    assert lr_schedule(accumulated, STEP, None).status is Status.FAIL
    assert lr_schedule(accumulated, STEP, _loop(16, 4)).status is Status.PASS
