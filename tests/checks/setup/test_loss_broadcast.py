"""loss-broadcast on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.setup.loss_broadcast import loss_broadcast
from nncheck.probes.target_pairing import Layout, Pairing, TargetPairing
from nncheck.verdict import Place, Status

SQUARE = Pairing(
    how="mse",
    place=Place(name="mse_loss"),
    output=(64, 1),
    target=(64,),
    result=(64, 64),
    targets_vary=True,
    changed=1e-8,
)
TAGS = Layout(
    kind="cross-entropy", place=Place(name="cross_entropy"), layer=Place(name="head"), layer_shape=(64, 5, 5), feature_dim=1,
    logits=(64, 5, 5), rows=320, mixed=0, swapped=0, touched=1,
)  # fmt: skip


def _seen(*pairings: Pairing, layouts: tuple[Layout, ...] = (), compared: tuple[str, ...] = ()) -> TargetPairing:
    return TargetPairing(compared=compared, pairings=pairings, layouts=layouts)


@pytest.mark.parametrize(
    ("pairing", "status"),
    [
        (SQUARE, Status.FAIL),
        (dataclasses.replace(SQUARE, changed=9e-6), Status.FAIL),
        (dataclasses.replace(SQUARE, changed=1.1e-5), Status.PASS),
        (dataclasses.replace(SQUARE, changed=math.nan), Status.PASS),
        (dataclasses.replace(SQUARE, changed=None), Status.FAIL),
        (dataclasses.replace(SQUARE, targets_vary=False), Status.PASS),
    ],
)
def test_broadcasting(pairing: Pairing, status: Status) -> None:
    assert loss_broadcast(_seen(pairing)).status == status


@pytest.mark.parametrize(
    ("layout", "status"),
    [
        (TAGS, Status.PASS),
        (dataclasses.replace(TAGS, mixed=320, swapped=320, touched=5), Status.FAIL),
        (dataclasses.replace(TAGS, mixed=320, swapped=0, touched=2), Status.FAIL),
        # A layer over time whose channels are the classes: another length, on purpose.
        (
            dataclasses.replace(
                TAGS, mixed=320, swapped=320, touched=7, layer_shape=(64, 7, 5), feature_dim=2, logits=(64, 7, 5)
            ),
            Status.PASS,
        ),
        # Four neighbouring pixels of a row of 24 taken for the four classes: a view that moved nothing.
        (
            dataclasses.replace(
                TAGS, mixed=320, swapped=320, touched=4, layer_shape=(20, 4, 24, 24), logits=(11520, 4)
            ),
            Status.FAIL,
        ),
    ],
)
def test_layout(layout: Layout, status: Status) -> None:
    assert loss_broadcast(_seen(layouts=(layout,))).status == status


def test_nothing_met() -> None:
    assert loss_broadcast(_seen()).status == Status.SKIP
    assert loss_broadcast(_seen(compared=("mse of (64,) and (64,)",))).status == Status.PASS
    grown = dataclasses.replace(_seen(compared=("mse of (128, 1) and (64,)",)), expanded=True)
    assert loss_broadcast(grown).status == Status.PASS
    assert "no broadcasting" not in loss_broadcast(grown).measured


@pytest.mark.parametrize(
    ("output", "target", "code"),
    [
        ((64, 1), (64,), "output.squeeze(1), target"),
        ((64,), (64, 1), "output, target.squeeze(1)"),
        ((8, 1, 4, 4), (8, 4, 4), "output.squeeze(1), target"),
        ((64, 1), (1, 64), "output, target.reshape(output.shape)"),
        ((8, 1, 1), (8,), "output.reshape(target.shape), target"),
        ((32, 3), (32, 1, 1), "output, target.reshape(-1, 1)"),
        ((32, 5, 3), (32,), "output, target.reshape(-1, 1, 1)"),
    ],
)
def test_the_remedy_is_exact(output: tuple[int, ...], target: tuple[int, ...], code: str) -> None:
    verdict = loss_broadcast(_seen(dataclasses.replace(SQUARE, output=output, target=target)))
    assert verdict.remedies[0].code == f"loss = loss_fn({code})"
