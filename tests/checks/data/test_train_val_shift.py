"""The judgement alone, on evidence made by hand."""

from dataclasses import replace

import pytest

from nncheck.checks.data import train_val_shift as limits
from nncheck.checks.data.train_val_shift import train_val_shift
from nncheck.probes.split_shift import Pair, Side, SplitShift
from nncheck.verdict import Status

TRAIN = Side(samples=4000, dtype="float32", kind="float", shape=(4,), low=-3.0, high=3.0, mean=0.0, std=1.0)
VAL = replace(TRAIN, samples=1000)
NAN = float("nan")


def _inputs(train: Side, val: Side, what: str = "") -> SplitShift:
    return SplitShift(inputs=(Pair(name="x", train=train, val=val, what=what),))


def _features(off: int) -> SplitShift:
    train = replace(TRAIN, means=(0.0,) * 4, stds=(1.0,) * 4)
    return _inputs(train, replace(VAL, means=(1.0,) * off + (0.0,) * (4 - off), stds=(1.0,) * 4), "features")


def _target(val: Side) -> SplitShift:
    return replace(_inputs(TRAIN, VAL), numbers=Pair(name="y", train=TRAIN, val=val))


def _labels(train: dict[float, int], val: dict[float, int], **more: bool) -> SplitShift:
    return SplitShift(train_labels=tuple(train.items()), val_labels=tuple(val.items()), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (SplitShift(), Status.PASS),
        (_inputs(TRAIN, VAL), Status.PASS),
        (_inputs(TRAIN, replace(VAL, mean=0.99 * limits.MEAN)), Status.PASS),
        (_inputs(TRAIN, replace(VAL, mean=1.01 * limits.MEAN)), Status.WARN),
        (_inputs(TRAIN, replace(VAL, mean=NAN, std=NAN)), Status.PASS),
        (_inputs(TRAIN, replace(VAL, mean=1.0, samples=limits.LEAST - 1)), Status.PASS),
        # Twenty samples: a mean is one standard deviation off by chance sometimes.
        (_inputs(TRAIN, replace(VAL, mean=1.0, samples=limits.LEAST)), Status.PASS),
        (_inputs(TRAIN, replace(VAL, std=0.99 * limits.RATIO)), Status.PASS),
        (_inputs(TRAIN, replace(VAL, std=1.01 * limits.RATIO)), Status.WARN),
        (_inputs(TRAIN, replace(VAL, std=0.99 / limits.RATIO)), Status.WARN),
        (_inputs(TRAIN, replace(VAL, low=0.0, high=1.0, mean=0.5, std=0.2)), Status.FAIL),
        (_inputs(TRAIN, replace(VAL, low=0.0, high=255.0, mean=120.0, std=60.0)), Status.FAIL),
        (_inputs(replace(TRAIN, std=0.0), VAL), Status.PASS),
        (_inputs(TRAIN, replace(VAL, dtype="float64")), Status.WARN),
        (_inputs(TRAIN, replace(VAL, shape=(5,))), Status.WARN),
        (_features(1), Status.PASS),
        (_features(2), Status.WARN),
        (_target(replace(VAL, mean=0.99 * limits.TARGET_MEAN)), Status.PASS),
        (_target(replace(VAL, mean=1.01 * limits.TARGET_MEAN)), Status.WARN),
        (_target(replace(VAL, std=0.99 * limits.TARGET_RATIO)), Status.PASS),
        (_target(replace(VAL, std=1.01 * limits.TARGET_RATIO)), Status.WARN),
        (_labels({0: 50, 1: 50}, {0: 20, 1: 20}), Status.PASS),
        (_labels({0: 50, 1: 50}, {0: 40}), Status.WARN),
        (_labels({0: 75, 1: 25}, {0: 400}), Status.PASS),
        (_labels({0: 74, 1: 26}, {0: 400}), Status.WARN),
        (_labels({0: 74, 1: 26}, {0: 40}), Status.PASS),
        (_labels({0: 50, 1: 50}, {0: 40}, weighted=True), Status.PASS),
        (_labels({0: 50, 1: 50}, {2: 40}), Status.PASS),
        (_labels({0: 100}, {0: 40, 1: 40}), Status.WARN),
        (SplitShift(items=16, changed=16, labels_kept=True), Status.WARN),
        (SplitShift(items=16, changed=16), Status.PASS),
        (SplitShift(tokens=(limits.TOKENS, 0.0)), Status.PASS),
        (SplitShift(tokens=(1.01 * limits.TOKENS, 0.0)), Status.WARN),
        (SplitShift(tokens=(0.0, 1.01 * limits.TOKENS)), Status.WARN),
        (SplitShift(items=16, changed=0, labels_kept=True), Status.PASS),
    ],
)
def test_train_val_shift(seen: SplitShift, status: Status) -> None:
    assert train_val_shift(seen).status is status


@pytest.mark.parametrize(
    ("seen", "near"),
    [
        (_inputs(TRAIN, replace(VAL, mean=0.52)), True),  # a standard error is 0.035
        (_inputs(TRAIN, replace(VAL, mean=0.45)), True),
        (_inputs(TRAIN, replace(VAL, mean=0.40)), False),
        (_inputs(TRAIN, replace(VAL, mean=0.60)), False),
        (_inputs(TRAIN, replace(VAL, std=1.9)), True),
        (_inputs(TRAIN, replace(VAL, mean=0.6, std=1.9)), True),
        (_inputs(TRAIN, replace(VAL, mean=3.0, std=1.9)), False),
        (_features(1), False),
        (_features(2), False),
        (_target(replace(VAL, mean=1.95)), True),
        (_target(replace(VAL, mean=2.5)), False),
        (_labels({0: 74, 1: 26}, {0: 400}), True),
        (_labels({0: 75, 1: 25}, {0: 400}), True),
        (_labels({0: 50, 1: 50}, {0: 400}), False),
        (SplitShift(items=16, changed=16, labels_kept=True), False),
    ],
)
def test_near_its_limits_it_says_so(seen: SplitShift, near: bool) -> None:
    verdict = train_val_shift(seen)
    assert bool(verdict.near) is near, verdict.near


def test_features_near_their_limit_count_only_where_they_turn_the_share() -> None:
    def features(*means: float) -> SplitShift:
        train = replace(TRAIN, means=(0.0,) * 4, stds=(1.0,) * 4)
        return _inputs(train, replace(VAL, means=means, stds=(1.0,) * 4), "features")

    assert train_val_shift(features(1.0, 0.49, 0.0, 0.0)).near
    assert train_val_shift(features(1.0, 0.51, 0.0, 0.0)).near
    assert train_val_shift(features(1.0, 1.0, 0.51, 0.0)).near == ""
    assert train_val_shift(features(0.0, 0.49, 0.0, 0.0)).near == ""
