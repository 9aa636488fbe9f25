"""finite-values on evidence made by hand."""

import math

import pytest

from nncheck.checks.setup.finite_values import finite_values
from nncheck.probes.first_step import FirstStep
from nncheck.probes.gradients import Gradients
from nncheck.probes.log_of_softmax import LogOfSoftmax
from nncheck.probes.non_finite import BadData, BadRun, NonFinite
from nncheck.verdict import Place, Status

NO_LOG = LogOfSoftmax(place=None)


def first(**changed: object) -> FirstStep:
    fields = {
        "loss": 1.0, "connected": True, "batch": "[0] is float32[8, 2]", "output": "float32[8, 4]", "losses": (),
        "loss_place": None, "bad_parameters": (), "bad_layer": None, "bad_gradients": (),
    }  # fmt: skip
    return FirstStep(**{**fields, **changed})


def seen(**changed: object) -> NonFinite:
    return NonFinite(**{"scanned": 4, "data": (), "runs": (), "origin": None, "backward": False, **changed})


def steps(*losses: float, bad: tuple[str, ...] = ()) -> Gradients:
    return Gradients(parameters=(), losses=losses or (1.0, 1.0, 1.0), bad_parameters=bad)


NAN = BadData(batch=2, tensor="[0]", what="NaN", samples=(3,), count=1, share=0.01, target=False)


def run(loss: float, *, bad: tuple[str, ...] = ()) -> BadRun:
    return BadRun(batch=2, reason="holds NaN in [0]", loss=loss, bad_gradients=bad, origin=None)


@pytest.mark.parametrize(
    ("step", "found", "after", "status", "word"),
    [
        (first(), seen(), steps(), Status.PASS, "finite"),
        (first(), seen(scanned=0), steps(1.0), Status.PASS, "0 batches"),
        # NaN that is there and does no harm is mentioned, no more.
        (first(), seen(data=(NAN,), runs=(run(1.0),)), steps(), Status.PASS, "does not reach"),
        (first(), seen(data=(NAN,), runs=(run(math.nan),)), steps(), Status.FAIL, "sample 3"),
        (first(), seen(data=(NAN,), runs=(run(1.0, bad=("w",)),)), steps(), Status.FAIL, "sample 3"),
        (first(), seen(runs=(run(math.inf),)), steps(), Status.FAIL, "batch 2"),
        (first(loss=math.nan), seen(), steps(math.nan), Status.FAIL, "first loss is nan"),
        (first(loss=math.inf, bad_layer=Place(name="fc")), seen(), steps(math.inf), Status.FAIL, "inf"),
        (first(bad_gradients=("w",)), seen(backward=True), steps(), Status.FAIL, "gradient of w"),
        (first(bad_parameters=("w",)), seen(), steps(), Status.FAIL, "w holds"),
        # A buffer of Inf may be a mask; with a bad loss it is the cause.
        (first(bad_buffers=("mask",)), seen(), steps(), Status.PASS, "mask"),
        (first(bad_buffers=("mean",), loss=math.nan), seen(), steps(math.nan), Status.FAIL, "mean holds"),
        (first(), seen(), steps(1.0, 1.0, bad=("w",)), Status.FAIL, "step makes w"),
        (first(), seen(), steps(1.0, math.inf), Status.WARN, "after 1 steps"),
    ],
)
def test_verdict(step: FirstStep, found: NonFinite, after: Gradients, status: Status, word: str) -> None:
    verdict = finite_values(step, found, after, NO_LOG)
    assert verdict.status is status
    assert word in f"{verdict.summary} {verdict.measured}"


def test_nan_in_the_first_batch_is_blamed_before_the_loss() -> None:
    data = BadData(batch=0, tensor="[1]", what="Inf", samples=(0, 1), count=2, share=0.5, target=True)
    verdict = finite_values(first(loss=math.inf), seen(data=(data,)), steps(math.inf), NO_LOG)
    assert verdict.status is Status.FAIL
    assert "Inf in the target (batch 0, samples 0, 1)" in verdict.summary
    assert verdict.exhibits


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (LogOfSoftmax(place=Place(name="log"), gap=2.0, loss=1.1, stretched=math.inf), Status.WARN),
        (LogOfSoftmax(place=Place(name="log"), gap=2.0, loss=1.1, stretched=math.nan), Status.WARN),
        (LogOfSoftmax(place=Place(name="log"), gap=2.0, loss=1.1, stretched=90.0), Status.PASS),  # an eps, or a clamp
        (NO_LOG, Status.PASS),
    ],
)
def test_logarithm_of_a_softmax(log: LogOfSoftmax, status: Status) -> None:
    assert finite_values(first(), seen(), steps(), log).status is status
