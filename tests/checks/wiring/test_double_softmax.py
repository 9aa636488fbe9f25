"""double-softmax on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.wiring.double_softmax import double_softmax, floor_of
from nncheck.probes.loss_inputs import LossInput, LossInputs, Producer
from nncheck.verdict import Place, Status

SOFTMAX = Producer(name="softmax", place=Place(name="last", file="model.py", line=9), dim=1)
SIGMOID = dataclasses.replace(SOFTMAX, name="sigmoid", dim=None)
LOG_SOFTMAX = dataclasses.replace(SOFTMAX, name="log_softmax")
LOGITS = LossInput(
    kind="cross-entropy", place=Place(name="cross_entropy"), classes=10, rows=64, low=-0.9, high=1.1, row_sums_off=2.0,
    log_sums_off=2.3, log_sums_high=2.4, made_by=None, before=None, connected=True, target_connected=False,
    edges=(), counts=(),
)  # fmt: skip
PROBABILITIES = dataclasses.replace(LOGITS, low=0.02, high=0.4, row_sums_off=1e-7)


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (LOGITS, Status.PASS),
        (PROBABILITIES, Status.FAIL),
        (dataclasses.replace(PROBABILITIES, row_sums_off=2e-4), Status.PASS),
        (dataclasses.replace(PROBABILITIES, low=-1e-6), Status.PASS),
        (dataclasses.replace(PROBABILITIES, rows=1), Status.PASS),
        (dataclasses.replace(PROBABILITIES, row_sums_off=math.nan), Status.PASS),
        (dataclasses.replace(LOGITS, made_by=SIGMOID, low=0.3, high=0.7), Status.FAIL),
        (dataclasses.replace(LOGITS, made_by=LOG_SOFTMAX, log_sums_off=1e-6), Status.PASS),
        (dataclasses.replace(LOGITS, made_by=LOG_SOFTMAX, before=SOFTMAX), Status.FAIL),
        (dataclasses.replace(LOGITS, made_by=LOG_SOFTMAX, before=LOG_SOFTMAX), Status.PASS),
        (dataclasses.replace(LOGITS, kind="bce-with-logits", made_by=SIGMOID), Status.FAIL),
        (dataclasses.replace(LOGITS, kind="bce", made_by=SIGMOID), Status.PASS),
        (dataclasses.replace(LOGITS, kind="bce", made_by=SIGMOID, before=SIGMOID), Status.FAIL),
        (dataclasses.replace(PROBABILITIES, kind="nll"), Status.FAIL),
        (dataclasses.replace(LOGITS, kind="nll", made_by=LOG_SOFTMAX), Status.PASS),
        (dataclasses.replace(PROBABILITIES, kind="kl-div"), Status.SKIP),
        (dataclasses.replace(PROBABILITIES, connected=False), Status.SKIP),
    ],
)
def test_table(item: LossInput, status: Status) -> None:
    assert double_softmax(LossInputs(inputs=(item,))).status == status


def test_nothing_to_look_at() -> None:
    verdict = double_softmax(LossInputs(inputs=()))
    assert verdict.status == Status.SKIP
    assert verdict.why_skipped


def test_the_second_of_two_losses_is_found_and_the_line_that_made_it_named() -> None:
    verdict = double_softmax(LossInputs(inputs=(LOGITS, dataclasses.replace(PROBABILITIES, made_by=SOFTMAX))))
    assert verdict.status == Status.FAIL
    assert verdict.places[0].line == 9
    assert "1.4612" in verdict.summary


@pytest.mark.parametrize(("classes", "value"), [(2, 0.3133), (3, 0.5514), (10, 1.4612), (1000, 5.9095)])
def test_floor(classes: int, value: float) -> None:
    assert floor_of(classes) == pytest.approx(value, abs=1e-4)
