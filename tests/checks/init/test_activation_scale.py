"""activation-scale on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.init.activation_scale import activation_scale
from nncheck.probes.activations import Activation, Activations, Scale
from nncheck.probes.trained_activations import TrainedActivations
from nncheck.verdict import Place, Status

SCALE = Scale(
    name="", place=Place(name=""), function="linear", spread=1.0, level=1.0, given_spread=math.nan, given_level=math.nan,
    segment=0, output=False, zero=False,
)  # fmt: skip
SEEN = Activations(
    samples=512, whole=False, trained="", activations=(), attentions=(), scales=(), softmaxes=(), linear=()
)


def _seen(*scales: dict[str, object], given: float = math.nan, **changes: object) -> Activations:
    named = [dataclasses.replace(SCALE, **{"name": f"fc{i}", **scale}) for i, scale in enumerate(scales)]
    named[0] = dataclasses.replace(named[0], given_spread=given, given_level=0.0)
    named[-1] = dataclasses.replace(named[-1], output=True)
    return dataclasses.replace(SEEN, scales=tuple(named), **changes)


def _spreads(*spreads: float, given: float = math.nan, **changes: object) -> Activations:
    return _seen(*({"spread": s, "level": s} for s in spreads), given=given, **changes)


def _status(start: Activations, after: Activations | None = None) -> Status:
    run = TrainedActivations(optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=2.3, after=after or start)
    return activation_scale(start, run).status


@pytest.mark.parametrize(
    ("before", "later", "status"),
    [
        (1.1e-4, 1e-5, Status.PASS),
        (9e-5, 2e-4, Status.PASS),  # on its way
        (9e-5, 9e-5, Status.WARN),
        (1e-6, 9e-5, Status.WARN),
        (9e-6, 9e-6, Status.FAIL),
        (0.0, 0.0, Status.FAIL),
        (math.nan, 0.5, Status.SKIP),
    ],
)
def test_dependence(before: float, later: float, status: Status) -> None:
    start, after = (_seen({"spread": d, "level": 1 - d}) for d in (before, later))
    assert _status(start, after) is status


def test_zero_weights_are_judged_after_the_run() -> None:
    start = _seen({}, {"spread": 0.0, "level": 0.0, "zero": True})
    assert _status(start, _seen({}, {"spread": 0.1})) is Status.PASS
    assert _status(start, _seen({}, {"spread": 0.0})) is Status.FAIL


def test_the_offset_of_the_input_is_not_the_networks() -> None:
    far = {"spread": 5e-5, "level": 1.0}
    assert _status(_seen(far)) is Status.WARN
    start = _seen(far)
    first = dataclasses.replace(start.scales[0], given_spread=1.0, given_level=1e4)
    assert _status(dataclasses.replace(start, scales=(first,))) is Status.PASS


@pytest.mark.parametrize(
    ("spreads", "given", "status"),
    [
        ((0.57, 0.19, 0.07, 0.03), 1.0, Status.PASS),  # PyTorch's default
        ((0.57, 0.19, 0.001), 1.0, Status.PASS),  # a head drawn small
        ((100.0, 10.0, 1.0), 200.0, Status.PASS),  # raw inputs
        ((0.008, 6e-5, 4e-7), 1.0, Status.WARN),  # N(0, 0.001)
        ((0.0073, 3.6e-5, 1.8e-7, 5e-8), 0.9, Status.WARN),  # with a default head
        ((8.0, 56.0, 410.0), 1.0, Status.WARN),  # N(0, 1)
        ((8.0, 56.0), 1.0, Status.PASS),  # two layers of it: loss-at-init sees the loss
        ((1.0, 30.0, 900.0), math.nan, Status.WARN),
        ((1.0, 2.0, 1.1e3), math.nan, Status.WARN),
        ((1.0, 2.0, 9e2), math.nan, Status.PASS),
    ],
)
def test_scale_through_depth(spreads: tuple[float, ...], given: float, status: Status) -> None:
    assert _status(_spreads(*spreads, given=given)) is status


def test_shrinking_that_the_run_does_not_mend_fails() -> None:
    start = _spreads(0.008, 6e-5, 4e-7, given=1.0)
    assert _status(start, _seen({}, {}, {"spread": 1e-7, "level": 0.01})) is Status.FAIL


def test_a_normalisation_sets_the_scale_anew() -> None:
    layers = [{"spread": s, "level": s, "segment": i} for i, s in enumerate((1e-6, 1.0, 1e4))]
    assert _status(_seen(*layers)) is Status.PASS


def test_a_silent_layer_is_left_to_dead_relu() -> None:
    silent = Activation(
        name="act", layer="fc", kind="relu", family="rectifier", place=Place(name="act"), role="hidden", feeds="",
        units=64, values=512, dead=1.0, always_on=0.0, slope=0.0, edges=(), counts=(),
    )  # fmt: skip
    dead = _seen({"spread": 0.0}, activations=(silent,))
    assert _status(dead) is Status.SKIP
    fixed = dataclasses.replace(silent, dead=0.5, always_on=0.45)
    assert _status(_seen({}, given=0.001, activations=(fixed,))) is Status.WARN  # divided by 255 twice
    assert _status(_seen({}, given=0.1, activations=(fixed,))) is Status.PASS


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        (((64, 10),), Status.PASS),
        (((64, 8), (8, 64)), Status.PASS),  # a linear autoencoder: narrow on purpose
        (((64, 128), (128, 10)), Status.WARN),
        (((64, 10), (10, 10)), Status.WARN),
    ],
)
def test_no_non_linearity(sizes: tuple[tuple[int, int], ...], status: Status) -> None:
    linear = tuple((Place(name="fc"), given, made) for given, made in sizes)
    assert _status(_seen({}, linear=linear)) is status


def _near(start: Activations) -> str:
    run = TrainedActivations(optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=2.3, after=start)
    verdict = activation_scale(start, run)
    assert set(verdict.spread) <= set(verdict.numbers)
    return verdict.near


@pytest.mark.parametrize(
    ("dependence", "near"), [(1.1e-4, True), (9e-5, True), (2e-4, False), (5e-5, False), (1.1e-5, True), (1e-6, False)]
)
def test_a_dependence_near_its_limits_says_so(dependence: float, near: bool) -> None:
    said = _near(_seen({}, {"spread": dependence, "level": 1.0 - dependence}))
    assert bool(said) is near, said


@pytest.mark.parametrize(("last", "near"), [(950.0, True), (1100.0, True), (500.0, False), (5000.0, False)])
def test_a_growth_near_its_limit_says_so(last: float, near: bool) -> None:
    said = _near(_spreads(1.0, 1.0, 1.0, last))
    assert bool(said) is near, said
