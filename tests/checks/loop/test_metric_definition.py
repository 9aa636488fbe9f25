"""metric-definition over evidence made by hand."""

import math

import pytest

from nncheck.checks.loop.metric_definition import ROUNDING, metric_definition
from nncheck.probes.metrics_seen import Metric, MetricsSeen
from nncheck.verdict import Place, Status

LINE = Place(name="acc", file="train.py", line=7)


def _seen(own: float, right: float, wrong: float, digits: int = -1) -> MetricsSeen:
    metric = Metric(place=LINE, own=own, right=right, wrong=wrong, digits=digits)
    return MetricsSeen(metrics=(metric,), samples=200, targets=200, batches=4)


@pytest.mark.parametrize(
    ("own", "right", "wrong", "digits", "status"),
    [
        (0.52, 1.0, 0.0, -1, Status.PASS),
        (52.0, 100.0, 0.0, -1, Status.PASS),
        (0.52, 1.0 - ROUNDING / 2, 0.0, -1, Status.PASS),
        (0.50, 0.999, 0.0, -1, Status.WARN),
        (0.50, 0.96, 0.0, -1, Status.WARN),
        (0.50, 0.94, 0.0, -1, Status.FAIL),
        (26.0, 50.0, 0.0, -1, Status.FAIL),
        (0.155, 0.0, 0.2, -1, Status.FAIL),  # upside down, and still hits among the samples
        (29.845, 25.58, 18.09, -1, Status.FAIL),
        (104.0, 200.0, 0.0, -1, Status.SKIP),  # a count
        (2.1, 4.0, 0.0, -1, Status.SKIP),  # a sum over batches
        (2.1, 4.0, 0.0, 1, Status.FAIL),  # that is printed
        (0.6931, 0.0001, 12.3456, -1, Status.SKIP),  # a loss
        (0.5, 0.5, 0.5, -1, Status.SKIP),  # of the training
        (math.nan, 1.0, 0.0, -1, Status.SKIP),
        (math.inf, 1.0, 0.0, -1, Status.SKIP),
        (-0.5, 0.9, -0.6, -1, Status.SKIP),
        (0.52, 0.996, 0.0, 2, Status.PASS),  # half of the last digit that is printed
        (0.52, 0.99, 0.0, 2, Status.WARN),
    ],
)
def test_both_sides(own: float, right: float, wrong: float, digits: int, status: Status) -> None:
    verdict = metric_definition(_seen(own, right, wrong, digits))
    assert verdict.status is status
    assert verdict.places == ((LINE,) if status in (Status.FAIL, Status.WARN) else ())


def test_hits_over_batches_are_told_by_their_number() -> None:
    (cause,) = metric_definition(_seen(26.0, 50.0, 0.0)).causes
    assert "number of batches" in cause
    (cause,) = metric_definition(_seen(0.01, 0.02, 0.0)).causes
    assert "divided by the number of samples" in cause


def test_without_a_metric_nothing_is_said() -> None:
    assert metric_definition(MetricsSeen(metrics=(), samples=0, targets=0, batches=0)).status is Status.SKIP
