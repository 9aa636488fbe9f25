"""saturation on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.init.saturation import saturation
from nncheck.probes.activations import Activation, Activations, Attention
from nncheck.verdict import Place, Status

LAYER = Activation(
    name="act", layer="fc", kind="tanh", family="bounded", place=Place(name="act"), role="hidden", feeds="", units=0,
    values=512, dead=math.nan, always_on=math.nan, slope=0.8, edges=(-1.0, 1.0), counts=(1.0,),
)  # fmt: skip
LOOK = Attention(name="attention", place=Place(name="attention"), heads=4, keys=32, entropy=0.95, top=0.1, scaled=True)
SEEN = Activations(
    samples=512, whole=False, trained="", activations=(), attentions=(), scales=(), softmaxes=(), linear=()
)


def _layers(*changes: dict[str, object], **others: object) -> Activations:
    return dataclasses.replace(SEEN, activations=tuple(dataclasses.replace(LAYER, **c) for c in changes), **others)


def _looks(*changes: dict[str, object]) -> Activations:
    return dataclasses.replace(SEEN, attentions=tuple(dataclasses.replace(LOOK, **c) for c in changes))


@pytest.mark.parametrize(
    ("kind", "family", "slope", "status"),
    [
        ("tanh", "bounded", 0.25, Status.PASS),
        ("tanh", "bounded", 0.24, Status.WARN),
        ("sigmoid", "bounded", 0.05, Status.WARN),
        ("sigmoid", "bounded", 0.049, Status.FAIL),
        ("tanh", "bounded", math.nan, Status.SKIP),
        ("clamp", "bounded", 0.06, Status.PASS),  # a clamp may guard; only where nothing passes it is a fault
        ("clamp", "bounded", 0.04, Status.FAIL),
        ("gelu", "smooth", 0.06, Status.PASS),
        ("gelu", "smooth", 0.04, Status.FAIL),
        ("softplus", "smooth", 0.001, Status.SKIP),
        ("relu", "rectifier", 0.0, Status.SKIP),  # dead-relu's
        ("relu6", "rectifier", 0.0, Status.FAIL),
    ],
)
def test_slopes(kind: str, family: str, slope: float, status: Status) -> None:
    assert saturation(_layers({"kind": kind, "family": family, "slope": slope, "dead": 0.0})).status is status


@pytest.mark.parametrize("role", ["output", "gate", "aside"])
def test_what_is_no_hidden_layer_is_not_judged(role: str) -> None:
    assert saturation(_layers({"slope": 0.0, "role": role})).status is Status.SKIP


def test_what_was_trained_before_is_not_judged() -> None:
    assert saturation(_layers({"slope": 0.0}, trained="the optimizer has a state already")).status is Status.SKIP


@pytest.mark.parametrize(
    ("entropy", "scaled", "status"),
    [
        (0.2, True, Status.PASS),
        (0.19, True, Status.WARN),  # one attention alone: its embeddings may be large
        (0.7, False, Status.PASS),
        (0.69, False, Status.WARN),
        (0.2, False, Status.WARN),
        (0.19, False, Status.FAIL),
        (math.nan, False, Status.SKIP),
    ],
)
def test_entropies(entropy: float, scaled: bool, status: Status) -> None:
    assert saturation(_looks({"entropy": entropy, "scaled": scaled})).status is status


def test_most_attentions_decide() -> None:
    sharp = {"entropy": 0.1}
    assert saturation(_looks(sharp, {})).status is Status.PASS
    assert saturation(_looks(sharp, sharp, {})).status is Status.FAIL


def test_raw_scores_clipped_for_a_loss_on_probabilities() -> None:
    clipped = {"kind": "clamp", "role": "output", "feeds": "bce", "slope": 0.5}
    assert saturation(_layers(clipped)).status is Status.FAIL
    assert saturation(_layers({**clipped, "slope": 0.95})).status is Status.SKIP
    assert saturation(_layers({**clipped, "feeds": "mse"})).status is Status.SKIP
    assert saturation(_layers({**clipped, "slope": 1.0, "raw": True})).status is Status.WARN  # it will leave the range
    assert saturation(_layers({**clipped, "slope": 1.0, "raw": True, "feeds": "mse"})).status is Status.SKIP


def test_a_softmax_between_layers() -> None:
    seen = dataclasses.replace(SEEN, softmaxes=(Place(name="act"),))
    assert saturation(seen).status is Status.WARN
    assert saturation(SEEN).status is Status.SKIP


@pytest.mark.parametrize(
    ("slope", "near"), [(0.255, True), (0.245, True), (0.28, False), (0.2, False), (0.051, True), (0.1, False)]
)
def test_a_slope_near_its_limits_says_so(slope: float, near: bool) -> None:
    verdict = saturation(_layers({"slope": slope}))
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["slope"] == pytest.approx(0.03 * slope)


@pytest.mark.parametrize(
    ("entropy", "scaled", "near"),
    [
        (0.205, True, True),
        (0.195, True, True),
        (0.25, True, False),
        (0.217, True, True),
        (0.15, True, False),
        (0.71, False, True),
        (0.5, False, False),
        (0.205, False, True),  # warns, and fails from 0.2 on
    ],
)
def test_an_entropy_near_its_limits_says_so(entropy: float, scaled: bool, near: bool) -> None:
    verdict = saturation(_looks({"entropy": entropy, "scaled": scaled}))
    assert bool(verdict.near) is near, verdict.near


def test_a_share_clipped_near_its_limit_says_so() -> None:
    def near(slope: float) -> str:
        return saturation(
            _layers(
                {"kind": "clamp", "family": "bounded", "feeds": "bce", "slope": slope, "raw": True, "role": "output"}
            )
        ).near

    assert near(0.89)
    assert near(0.91)
    assert near(0.5) == ""
