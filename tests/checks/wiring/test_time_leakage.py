"""time-leakage on evidence made by hand."""

from dataclasses import replace

import pytest

from nncheck.checks.wiring.time_leakage import CONTRADICTED, time_leakage
from nncheck.lab.future import Ahead
from nncheck.probes.time_dependence import TOLERANCE, Followed, TimeDependence, Window
from nncheck.probes.token_order import TokenOrder
from nncheck.verdict import Place, Status

HERE = Place(name="attention", file="model.py", line=12)
CLEAN = Followed(
    argument="ids",
    tokens=True,
    lag=1,
    share=1.0,
    length=12,
    sequences=1,
    matters=True,
    leak=0.0,
    reach=0,
    asked=(1, 3, 6),
    rows=(0, 11),
    seen=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    causal=True,
    mixes=False,
    noisy=False,
    ahead=None,
)
LEAKING = replace(CLEAN, leak=0.4, reach=11, causal=False, ahead=Ahead(function="softmax", place=HERE, state=False))


NO_TOKENS = TokenOrder(change=None, contradicted=0.0, table=None)


def _seen(*followed: Followed, window: Window | None = None) -> TimeDependence:
    return TimeDependence(
        arguments=("ids",),
        loss="cross-entropy",
        place=Place(name="loss"),
        followed=followed,
        window=window,
    )


@pytest.mark.parametrize(
    ("followed", "status"),
    [
        ((), Status.SKIP),
        ((CLEAN,), Status.PASS),
        ((LEAKING,), Status.FAIL),
        ((replace(LEAKING, ahead=None),), Status.FAIL),
        ((replace(LEAKING, noisy=True),), Status.SKIP),
        ((replace(LEAKING, ahead=Ahead(function="gru", place=HERE, state=True)),), Status.SKIP),
        ((replace(LEAKING, matters=False),), Status.SKIP),
        ((CLEAN, LEAKING), Status.PASS),  # a decoder looks back only, its encoder may look at all
        ((replace(CLEAN, lag=2),), Status.FAIL),
        ((replace(CLEAN, lag=2, tokens=False),), Status.PASS),  # a forecast two steps ahead
        ((replace(CLEAN, lag=0),), Status.SKIP),
        ((replace(CLEAN, lag=0, mixes=True),), Status.FAIL),
        ((replace(CLEAN, lag=0, mixes=True, tokens=False),), Status.SKIP),
        ((replace(LEAKING, lag=0),), Status.SKIP),  # an autoencoder
        ((replace(LEAKING, lag=0, sequences=2),), Status.FAIL),
        ((replace(CLEAN, lag=0, sequences=2),), Status.PASS),
    ],
)
def test_verdicts(followed: tuple[Followed, ...], status: Status) -> None:
    assert time_leakage(_seen(*followed), NO_TOKENS).status is status


@pytest.mark.parametrize(
    ("order", "status"),
    [
        (TokenOrder(change=TOLERANCE, contradicted=CONTRADICTED, table=None), Status.SKIP),
        (TokenOrder(change=TOLERANCE, contradicted=CONTRADICTED * 1.01, table=None), Status.WARN),
        (TokenOrder(change=TOLERANCE, contradicted=0.0, table=HERE), Status.WARN),
        (TokenOrder(change=TOLERANCE * 1.01, contradicted=0.9, table=HERE), Status.SKIP),
        (TokenOrder(change=float("nan"), contradicted=0.9, table=HERE), Status.SKIP),
        (TokenOrder(change=None, contradicted=0.9, table=HERE), Status.SKIP),
    ],
)
def test_order(order: TokenOrder, status: Status) -> None:
    assert time_leakage(_seen(), order).status is status
    assert time_leakage(_seen(CLEAN), order).status is Status.PASS  # a mask tells the order of tokens as well


def test_a_window_that_holds_its_target() -> None:
    window = Window(argument="x", steps=16, share=1.0, column="channel 0")
    assert time_leakage(_seen(window=window), NO_TOKENS).status is Status.FAIL


@pytest.mark.parametrize(
    ("function", "reach", "word"),
    [
        ("softmax", 11, "is_causal"),
        ("softmax", 1, "diagonal=1"),
        ("lstm", 11, "bidirectional=False"),
        ("conv1d", 2, "F.pad"),
        ("layer_norm", 11, "LayerNorm(features)"),
        ("flip", 11, "follow"),
    ],
)
def test_the_remedy_fits_the_call(function: str, reach: int, word: str) -> None:
    item = replace(LEAKING, reach=reach, ahead=Ahead(function=function, place=HERE, state=False))
    verdict = time_leakage(_seen(item), NO_TOKENS)
    assert word in verdict.remedies[0].text
    assert verdict.places == (HERE,)
    assert verdict.exhibits[0].kind == "heatmap"
