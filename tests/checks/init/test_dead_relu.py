"""dead-relu on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.init.dead_relu import dead_relu
from nncheck.probes.activations import Activation, Activations, Scale
from nncheck.probes.trained_activations import TrainedActivations
from nncheck.verdict import Place, Status

LAYER = Activation(
    name="act", layer="fc", kind="relu", family="rectifier", place=Place(name="act"), role="hidden", feeds="", units=100,
    values=512, dead=0.0, always_on=0.0, slope=0.5, edges=(0.0, 1.0), counts=(1.0,),
)  # fmt: skip
SEEN = Activations(
    samples=512, whole=False, trained="", activations=(LAYER,), attentions=(), scales=(), softmaxes=(), linear=()
)


def _scale(name: str, spread: float, given: float = math.nan) -> Scale:
    return Scale(
        name=name, place=Place(name=name), function="linear", spread=spread, level=0.0, given_spread=given,
        given_level=0.0, segment=0, output=False, zero=False,
    )  # fmt: skip


def _seen(*layers: dict[str, object], **changes: object) -> Activations:
    named = [dataclasses.replace(LAYER, **{"name": f"act{i}", **layer}) for i, layer in enumerate(layers)]
    return dataclasses.replace(SEEN, activations=tuple(named), **changes)


def _status(start: Activations, after: Activations | None = None, *, last: float = 2.3) -> Status:
    run = TrainedActivations(optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=last, after=after or start)
    return dead_relu(start, run).status


@pytest.mark.parametrize(
    ("dead", "on", "status"),
    [
        (0.0, 0.0, Status.PASS),
        (0.40, 0.0, Status.PASS),  # not more than MANY
        (0.42, 0.0, Status.WARN),
        (0.52, 0.45, Status.PASS),  # a coin flip: a deep default network, its first layer free (below)
        (0.90, 0.10, Status.WARN),
        (0.91, 0.0, Status.FAIL),
        (1.0, 0.0, Status.FAIL),
    ],
)
def test_silent_at_the_start(dead: float, on: float, status: Status) -> None:
    assert _status(_seen({"dead": 0.0}, {"dead": dead, "always_on": on})) is status


def test_every_layer_fixed_is_a_linear_network() -> None:
    fixed = {"dead": 0.47, "always_on": 0.5}
    assert _status(_seen(fixed, fixed)) is Status.WARN
    assert _status(_seen({"dead": 0.45, "always_on": 0.45}, fixed)) is Status.PASS  # exactly 90 %
    assert _status(_seen(fixed, fixed), _seen({"dead": 0.1}, fixed)) is Status.PASS  # the run mended it
    assert _status(_seen(fixed, scales=(_scale("fc", 0.001, given=0.001),))) is Status.PASS  # the input's fault


@pytest.mark.parametrize(
    ("dead", "last", "status"),
    [
        (0.50, 2.3, Status.PASS),
        (0.55, 2.3, Status.WARN),
        (0.75, 2.3, Status.FAIL),
        (0.75, 1.0, Status.PASS),  # it learns all the same
        (math.nan, 2.3, Status.PASS),
    ],
)
def test_died_in_the_run(dead: float, last: float, status: Status) -> None:
    assert _status(_seen({}), _seen({"dead": dead}), last=last) is status


def test_a_layer_too_faint_to_judge_is_left_to_activation_scale() -> None:
    scales = (_scale("stem", 1.0, given=1.0), _scale("fc", 1e-3))
    assert _status(_seen({}, scales=scales), _seen({"dead": 0.9}, scales=scales)) is Status.PASS
    alike = (_scale("stem", 1.0), dataclasses.replace(_scale("fc", 1.0), level=4.5))
    assert _status(_seen({}, scales=alike), _seen({"dead": 0.9}, scales=alike)) is Status.PASS
    sound = (_scale("stem", 1.0), dataclasses.replace(_scale("fc", 1.0), level=3.5))
    assert _status(_seen({}, scales=sound), _seen({"dead": 0.9}, scales=sound)) is Status.FAIL


@pytest.mark.parametrize("role", ["output", "gate", "aside"])
def test_what_is_no_hidden_layer_is_not_judged(role: str) -> None:
    assert _status(_seen({"dead": 1.0, "role": role})) is Status.SKIP


def test_few_samples_or_units_settle_less() -> None:
    assert _status(_seen({"dead": 0.6, "values": 64}, samples=64)) is Status.PASS
    assert _status(_seen({"dead": 0.6, "values": 64}, samples=64, whole=True)) is Status.WARN
    assert _status(_seen({"dead": 0.6, "units": 4})) is Status.PASS
    assert _status(_seen({"dead": 1.0, "values": 8}, samples=8)) is Status.PASS


def test_trained_networks_may_be_sparse_but_not_silent() -> None:
    assert _status(_seen({"dead": 0.95}, trained="its loss is low")) is Status.PASS
    assert _status(_seen({"dead": 1.0}, trained="its loss is low")) is Status.FAIL


def test_a_relu_before_a_loss_on_logits() -> None:
    logits = {"role": "output", "feeds": "cross-entropy", "slope": 0.6}
    assert _status(_seen({}, logits)) is Status.FAIL
    assert _status(_seen({}, {**logits, "slope": 0.95})) is Status.PASS
    assert _status(_seen({}, {**logits, "feeds": "mse"})) is Status.PASS
    assert _status(_seen({}, {**logits, "slope": math.nan})) is Status.PASS


def test_an_output_that_is_silent_for_every_sample() -> None:
    price = {"role": "output", "feeds": "mse", "slope": 0.0, "dead": 1.0, "units": 1}
    assert _status(_seen({}, price)) is Status.FAIL
    assert _status(_seen({}, {**price, "dead": 0.99})) is Status.PASS  # one of many outputs lives
    assert _status(_seen({}, {**price, "dead": math.nan})) is Status.PASS
    assert _status(_seen({}, {**price, "values": 8})) is Status.PASS
    assert (
        _status(_seen({}, {**price, "feeds": ""})) is Status.PASS
    )  # a term of the user's own: a hinge that is satisfied


def test_no_run_and_nothing_seen() -> None:
    run = TrainedActivations(optimizer="Adam", updates=1, first_loss=1.0, last_loss=math.nan, after=None)
    assert dead_relu(_seen({}), run).status is Status.PASS
    assert dead_relu(_seen({"dead": 1.0}), run).status is Status.FAIL
    assert dead_relu(_seen(), run).status is Status.SKIP


@pytest.mark.parametrize(
    ("dead", "units", "near"),
    [
        (0.35, 100, True),  # known to 0.05
        (0.45, 100, True),
        (0.25, 100, False),
        (0.60, 100, False),
        (0.35, 1000, False),  # known to 0.015
        (0.95, 100, False),
        (0.92, 100, True),
    ],
)
def test_near_its_limits_it_says_so(dead: float, units: int, near: bool) -> None:
    start = _seen({"dead": 0.0}, {"dead": dead, "units": units})
    run = TrainedActivations(optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=2.3, after=start)
    verdict = dead_relu(start, run)
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["dead"] == pytest.approx(math.sqrt(dead * (1 - dead) / units), rel=0.2)


@pytest.mark.parametrize(
    ("dead", "last", "near"),
    [(0.48, 2.3, True), (0.55, 2.3, True), (0.63, 2.3, True), (0.9, 2.3, False), (0.55, 1.0, False)],
)  # warns from 0.5 on, fails from 0.7
def test_units_that_died_near_the_limits_say_so(dead: float, last: float, near: bool) -> None:
    run = TrainedActivations(
        optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=last, after=_seen({"dead": dead})
    )
    assert bool(dead_relu(_seen({}), run).near) is near


def test_a_linear_network_is_near_if_one_of_its_layers_is() -> None:
    def near(fixed: float) -> str:
        start = _seen({"dead": 0.5, "always_on": 0.5}, {"dead": 0.47, "always_on": fixed - 0.47})
        run = TrainedActivations(optimizer="SGD(lr=0.1)", updates=32, first_loss=2.3, last_loss=2.3, after=start)
        return dead_relu(start, run).near

    assert "act1" in near(0.92)
    assert near(1.0) == ""
