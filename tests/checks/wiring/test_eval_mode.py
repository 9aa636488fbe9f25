"""eval-mode on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.wiring.eval_mode import eval_mode
from nncheck.observe.randomness import RandomUse
from nncheck.probes.evaluation import BatchStatistics, Evaluation, KeptState
from nncheck.probes.normalisation import Momentum, Normalisation, Wandering
from nncheck.probes.training_loop import StepCall, TrainingLoop
from nncheck.verdict import Place, Status

HERE = Place(name="Net", file="model.py", line=9)
SAME = Evaluation(
    seeds=0.0, again=0.0, further=None, exact=True, stuck=False, unreached=False, methods=HERE, meant="", random=(), rates=(),
    statistics=(), state=(), shuffled=True, supervised=True,
)  # fmt: skip
NORMS = Normalisation(momenta=(), planned=None, epoch=16, drifting=(), wandering=(), batch_size=32, dropped=None)
NO_LOOP = TrainingLoop(given=False)
DROPOUT = RandomUse(kind="dropout", function="dropout", because="default", rate=0.2, declared="", place=HERE)
NOISE = dataclasses.replace(DROPOUT, kind="noise", function="randn_like", because="")
STATE = KeptState(name="state", registered=False, whole=True)


def _random(*uses: RandomUse, **changed: object) -> Evaluation:
    return dataclasses.replace(SAME, seeds=0.4, random=uses, **changed)


def _because(because: str) -> Evaluation:
    return _random(dataclasses.replace(DROPOUT, because=because))


def _state(item: KeptState, **changed: object) -> Evaluation:
    return dataclasses.replace(SAME, **{"again": 0.1, "further": 0.1, "state": (item,)} | changed)


@pytest.mark.parametrize(
    ("passes", "status"),
    [
        (SAME, Status.PASS),
        (dataclasses.replace(SAME, seeds=math.nan), Status.SKIP),
        (_random(DROPOUT), Status.FAIL),
        (_random(DROPOUT, meant="MC"), Status.PASS),
        (_random(dataclasses.replace(DROPOUT, declared="Monte-Carlo")), Status.PASS),
        (_because("stray"), Status.FAIL),
        (_because("stuck"), Status.FAIL),
        (_because("wrong"), Status.FAIL),
        (_because("asked"), Status.WARN),
        (_because("library"), Status.PASS),
        (dataclasses.replace(_random(DROPOUT), seeds=1e-5), Status.PASS),
        (dataclasses.replace(_random(DROPOUT), seeds=1.1e-5), Status.FAIL),
        (_random(dataclasses.replace(DROPOUT, kind="made", because="")), Status.FAIL),
        (_random(NOISE), Status.WARN),
        (_random(NOISE, supervised=False), Status.PASS),
        (_random(dataclasses.replace(NOISE, kind="mask")), Status.WARN),
        (_random(dataclasses.replace(NOISE, kind="drawn")), Status.PASS),
        (dataclasses.replace(SAME, stuck=True), Status.FAIL),
        (dataclasses.replace(SAME, unreached=True), Status.FAIL),
        (_state(STATE), Status.FAIL),
        (_state(STATE, shuffled=False), Status.PASS),
        (_state(STATE, further=0.0), Status.PASS),
        (_state(STATE, exact=False, again=1e-6, further=1e-6), Status.PASS),
        (_state(KeptState(name="queue", registered=True, whole=False)), Status.PASS),
        (_state(KeptState(name="mean", registered=True, whole=True)), Status.FAIL),
        (dataclasses.replace(SAME, rates=(("drop", 0.79, HERE),)), Status.PASS),
        (dataclasses.replace(SAME, rates=(("drop", 0.8, HERE),)), Status.WARN),
    ],
)
def test_passes(passes: Evaluation, status: Status) -> None:
    assert eval_mode(passes, NORMS, NO_LOOP).status is status


@pytest.mark.parametrize(
    ("because", "status"),
    [("stray", Status.FAIL), ("stuck", Status.FAIL), ("untracked", Status.WARN), ("functional", Status.WARN)],
)
def test_batch_statistics(because: str, status: Status) -> None:
    found = (BatchStatistics(layer="norm", because=because, place=HERE),)
    assert eval_mode(dataclasses.replace(SAME, statistics=found), NORMS, NO_LOOP).status is status


def _momentum(value: float, **changed: object) -> Normalisation:
    return dataclasses.replace(NORMS, momenta=(Momentum(layer="norm", value=value, place=HERE),), **changed)


def _wandering(values: int, independent: float, batch_size: int = 4) -> Normalisation:
    found = Wandering(layer="norm", values=values, independent=independent, place=HERE)
    return dataclasses.replace(NORMS, wandering=(found,), batch_size=batch_size)


@pytest.mark.parametrize(
    ("norms", "status"),
    [
        (_momentum(0.1), Status.PASS),
        (_momentum(0.5), Status.PASS),
        (_momentum(0.51), Status.WARN),
        (_momentum(0.005), Status.PASS),
        (_momentum(0.0049), Status.WARN),
        (_momentum(0.001, planned=999), Status.WARN),
        (_momentum(0.001, planned=1000), Status.PASS),
        (_momentum(0.001, epoch=None), Status.PASS),
        (_wandering(64, 3.9), Status.WARN),
        (_wandering(64, 4.1), Status.PASS),
        (_wandering(4, 4.0), Status.WARN),
        (_wandering(64, 3.9, batch_size=5), Status.PASS),
        (dataclasses.replace(NORMS, dropped=(0.3, HERE, "cross-entropy")), Status.FAIL),
        (dataclasses.replace(NORMS, drifting=(HERE,)), Status.WARN),
    ],
)
def test_numbers(norms: Normalisation, status: Status) -> None:
    assert eval_mode(SAME, norms, NO_LOOP).status is status


@pytest.mark.parametrize(
    ("modes", "matters", "status"),
    [
        ((True, False, False), True, Status.FAIL),
        ((True, False, False), False, Status.PASS),
        ((True, True, True), True, Status.PASS),
        ((False, False), True, Status.PASS),
        ((True,), True, Status.PASS),
        ((), True, Status.PASS),
    ],
)
def test_the_mode_a_step_leaves(modes: tuple[bool, ...], matters: bool, status: Status) -> None:
    calls = tuple(StepCall(events=(), losses=(), entered_training=m, size=8, forwards=1, rate=0.1) for m in modes)
    loop = TrainingLoop(given=True, calls=calls, mode_matters=matters)
    assert eval_mode(SAME, NORMS, loop).status is status
