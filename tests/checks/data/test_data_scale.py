"""data-scale on evidence made by hand."""

import math
from typing import Any

import pytest

from nncheck.checks.data.data_scale import data_scale
from nncheck.verdict import Status
from tests.checks.data.evidence import (
    call,
    columns,
    data,
    entry,
    given,
    inputs,
    labels,
    losses,
    picture,
    pixels,
    spread,
)

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS

BYTES = {
    "kind": "conv", "shape": (32, 3, 32, 32), "low": 0.0, "high": 255.0, "mean": 120.0, "std": 60.0, "whole": 1.0, "distinct": 256,
    "features": spread((120.0, 60.0)), "binary": (False,), "empty": (0.0,),
}  # fmt: skip
TWICE = {
    "kind": "conv", "shape": (32, 3, 32, 32), "low": 0.0, "high": 1 / 255, "mean": 0.002, "std": 0.001, "bytes_twice": True,
    "features": spread((0.002, 0.001)), "binary": (False,), "empty": (0.0,),
}  # fmt: skip
IMAGES = {
    "kind": "conv",
    "shape": (32, 3, 32, 32),
    "features": spread(*[(0.0, 1.0)] * 3),
    "binary": (False,) * 3,
    "empty": (0.0,) * 3,
}


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (entry(), PASS),
        (entry(**BYTES), FAIL),
        (entry(**{**BYTES, "normalised": True}), PASS),
        # 16 grey levels are of size one already; a count of 0..255 in a few columns is no image.
        (entry(**{**BYTES, "high": 16.0, "mean": 5.0, "std": 6.0, "distinct": 17, "features": spread((5.0, 6.0))}), PASS),
        (entry(**{**BYTES, "high": 256.0, "mean": 50.0, "std": 60.0, "features": spread((50.0, 60.0))}), PASS),
        (entry(**TWICE), FAIL),
        (entry(**{**TWICE, "normalised": True}), WARN),
        # Levels in decibels, and the colours' means taken off without a division.
        (entry(**{**IMAGES, "low": -80.0, "high": 0.0, "mean": -50.0, "std": 20.0, "features": spread((-50.0, 20.0))}), PASS),
        (entry(**{**IMAGES, "low": -120.0, "high": 150.0, "mean": 3.0, "std": 65.0}), PASS),
        (columns((0.0, 1.0), (750.0, 315.0), (0.9, 0.2)), WARN),
        (columns((0.0, 1.0), (90.0, 30.0), (0.9, 0.2)), PASS),
        (columns((0.0, 1.0), (120.0, 40.0), (0.9, 2.0)), PASS),
        # A column of flags, and one nearly always empty, have no unit.
        (columns((0.0, 1.0), (150.0, 90.0), (0.01, 0.1), binary=(False, False, True), low=-4.0, mean=5.0, std=60.0), PASS),
        (columns((0.0, 1.0), (150.0, 90.0), (0.01, 0.1), empty=(0.0, 0.0, 0.95), mean=5.0, std=60.0), PASS),
        (columns(*[(100.0, 1.0)] * 8), WARN),
        (columns(*[(100.0, 1.0)] * 8, normalised=True), PASS),
        (columns(*[(4.0, 0.5)] * 8), PASS),
        # Images divided twice and then normalised: nothing of their spread is left.
        (columns(*[(-2.1, 0.005)] * 8), WARN),
        (columns((2015.0, 3.0), *[(0.0, 1.0)] * 7), WARN),
        (columns(*[(0.0, 5000.0)] * 8), WARN),
        (columns(*[(0.0, 5000.0)] * 8, normalised=True), PASS),
        (columns(*[(0.0, 0.05)] * 8), PASS),
        (columns(*[(0.0, 0.001)] * 8, low=-0.004, high=0.004), WARN),
        (columns(*[(0.0, 0.001)] * 8, low=-0.5, high=0.5), PASS),
        (columns((math.nan, math.nan), (0.0, 1.0), mean=0.0, std=1.0, low=-1.0, high=1.0), PASS),
        (entry(**IMAGES, picture=picture()), PASS),
        (entry(**IMAGES, picture=picture(across=-0.3, down=-0.2)), FAIL),
        # Stripes three pixels wide in one direction, and few images, are no proof.
        (entry(**IMAGES, picture=picture(across=-0.3, down=0.2)), PASS),
        (entry(**IMAGES, picture=picture(across=-0.3, down=-0.2, across_error=0.06, down_error=0.06)), PASS),
        (entry(**{**IMAGES, "shape": (32, 32, 32, 3)}, picture=picture(last=True)), FAIL),
        # 64 sensors, 128 steps, 3 directions.
        (entry(**{**IMAGES, "shape": (32, 64, 128, 3)}, picture=picture(last=True, height=64, width=128)), PASS),
        (entry(**IMAGES, picture=picture(height=1024, width=1024, block=32)), WARN),
        (entry(**IMAGES, picture=picture(height=1024, width=1024, straight=0.93)), WARN),
        (entry(**IMAGES, picture=picture(height=224, width=224, block=8)), PASS),
        (entry(**IMAGES, picture=picture(height=1024, width=1024, block=2)), PASS),
    ],
)  # fmt: skip
def test_inputs(seen: Any, status: Status) -> None:
    verdict = data_scale(given(seen), data(), losses(), pixels())
    assert verdict.status is status, verdict
    assert verdict.measured
    assert verdict.status is PASS or (verdict.places and verdict.remedies)


@pytest.mark.parametrize(
    ("ratio", "shift", "trained", "status"),
    [
        (1.3, 0.4, "counted", PASS),
        (0.3, 0.5, "counted", PASS),
        (0.07, 0.4, "counted", WARN),
        (7.0, 0.0, "counted", WARN),
        (1.0, 2.5, "counted", WARN),
        (0.07, 0.4, "", PASS),
        (math.nan, math.nan, "counted", PASS),
    ],
)
def test_against_what_it_was_trained_with(ratio: float, shift: float, trained: str, status: Status) -> None:
    seen = entry(**IMAGES, ratio=ratio, shift=shift, normalised=True)
    assert data_scale(given(seen, trained=trained), data(), losses(), pixels()).status is status


def test_a_trained_network_knows_the_scale_of_its_input() -> None:
    seen = columns(*[(0.0, 5000.0)] * 8)
    assert (
        data_scale(given(seen, trained="the optimizer has a state already"), data(), losses(), pixels()).status is PASS
    )


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"constant": 5, "constant_at": (1, 2), "constant_values": (0.0, 0.0)}, WARN),
        ({"constant": 1, "constant_at": (1,), "constant_values": (0.0,)}, PASS),
        # Half of the set and more, values that differ, and masks: meant to be.
        ({"constant": 600, "constant_values": (0.0, 0.0)}, PASS),
        ({"constant": 5, "constant_values": (0.0, 0.3)}, PASS),
        ({"constant": 5, "constant_values": (0.0, 0.0), "constant_labels": (3.0, 1.0, 3.0, 2.0)}, WARN),
        ({"constant": 5, "constant_values": (0.0, 0.0), "constant_labels": (3.0, 3.0, 3.0)}, WARN),
        # Silence as a class of its own.
        ({"constant": 5, "constant_values": (0.0, 0.0), "constant_labels": (3.0, 3.0, 3.0, 3.0)}, PASS),
        ({"constant": 5, "constant_values": (1.0, 1.0), "distinct": 2}, PASS),
        ({"constant": 5, "constant_values": (0.0, 0.0), "shape": (8,)}, PASS),
    ],
)
def test_blank_samples(changed: dict[str, Any], status: Status) -> None:
    seen = data(seen=(inputs(**changed),))
    assert data_scale(given(entry(**IMAGES)), seen, losses(), pixels()).status is status


@pytest.mark.parametrize(
    ("axes", "status"),
    [
        (((1, spread((0.9, 0.4), (-0.9, 0.3), (0.0, 0.3))), (3, spread(*[(0.0, 1.0)] * 32))), WARN),
        (((1, spread(*[(0.0, 1.0)] * 3)), (3, spread(*[(0.0, 1.0)] * 32))), PASS),
        (((1, spread((0.9, 0.4), (-0.9, 0.3), (0.0, 0.3))), (3, spread(*[(0.1, 0.9)] * 32))), PASS),
        ((), PASS),
    ],
)
def test_wrong_axis(axes: Any, status: Status) -> None:
    verdict = data_scale(given(entry(**IMAGES)), data(seen=(inputs(axes=axes),)), losses(), pixels())
    assert verdict.status is status, verdict


REGRESSION = {
    "kind": "mse",
    "classes": 0,
    "ignore_index": None,
    "integer": False,
    "dtype": "float32",
    "own": "",
    "output_std": 0.3,
}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"mean": 0.0, "std": 1.0}, PASS),
        ({"mean": 40.0, "std": 12.0, "low": 18.0, "high": 90.0}, PASS),
        ({"mean": 2e5, "std": 1e5, "low": 1e4, "high": 5e5}, WARN),
        ({"mean": 2e5, "std": 1e5, "low": 1e4, "high": 5e5, "output_mean": 2e5, "output_std": 4e4}, PASS),
        ({"mean": 300.0, "std": 10.0, "low": 270.0, "high": 330.0}, WARN),
        ({"mean": 9.0, "std": 0.5, "low": 7.0, "high": 11.0}, PASS),
        ({"mean": 0.0, "std": 1e-4, "low": -3e-4, "high": 3e-4}, WARN),
        ({"mean": 0.0, "std": 0.02, "low": -0.1, "high": 0.1}, PASS),
        ({"mean": 5.0, "std": 0.0}, PASS),
        ({"mean": math.nan, "std": math.nan}, PASS),
        ({"mean": 2e5, "std": 1e5, "roots": ()}, PASS),
        ({"mean": 2e5, "std": 1e5, "kind": "poisson-nll"}, PASS),
    ],
)
def test_targets(changed: dict[str, Any], status: Status) -> None:
    verdict = data_scale(given(entry()), data(), losses(call(**{**REGRESSION, **changed})), pixels())
    assert verdict.status is status, verdict


def test_targets_of_the_whole_set_count() -> None:
    seen = labels(kind="float", low=0.0, high=9e5, mean=2e5, std=1e5, quantiles=(0.0, 1e5, 9e5))
    verdict = data_scale(
        given(entry()), data(seen), losses(call(**{**REGRESSION, "own": "[1]", "mean": 0.0, "std": 1.0})), pixels()
    )
    assert verdict.status is WARN
    assert verdict.exhibits


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"items": 64, "given_levels": 2.0}, FAIL),
        ({"items": 64, "stored_levels": 3.0, "given_levels": 2.0}, PASS),
        ({"items": 64, "in_place": 60, "turned_items": 20, "turned": 0.02}, FAIL),
        ({"items": 64, "in_place": 60, "turned_items": 5, "turned": 0.02}, PASS),
        ({"items": 64, "in_place": 10, "turned_items": 3, "turned": 0.02}, PASS),
    ],
)
def test_stored_pixels(changed: dict[str, Any], status: Status) -> None:
    assert data_scale(given(entry(**IMAGES)), data(), losses(), pixels(**changed)).status is status


def test_skips_and_normalised_inputs() -> None:
    assert data_scale(given(entry(kind="embedding")), data(), losses(), pixels()).status is Status.SKIP
    assert data_scale(given(), data(), losses(), pixels()).status is Status.SKIP
    assert data_scale(given(columns(*[(0.0, 1e6)] * 3, kind="norm")), data(), losses(), pixels()).status is PASS


@pytest.mark.parametrize(
    ("seen", "near"),
    [
        (entry(), False),
        (columns((0.0, 1.0), (95.0, 30.0), (0.9, 0.05)), True),
        (columns((0.0, 1.0), (105.0, 30.0), (0.9, 0.05)), True),
        (columns((0.0, 1.0), (60.0, 30.0), (0.9, 0.05)), False),
        (columns((0.0, 1.0), (105.0, 30.0), (0.9, 0.8)), False),  # and no dwarf beside it
        (columns((0.0, 1.0), (500.0, 30.0), (0.9, 0.05)), False),
        (columns((0.0, 105.0), kind="conv"), True),
        (columns((0.0, 95.0), kind="conv"), True),
        (columns((0.0, 95.0), kind="conv", normalised=True), False),
        (columns((0.0, 500.0), kind="conv"), False),
        (columns(*[(100.0, 1.0)] * 8), False),  # of size 100, but it is the offset that is found
    ],
)
def test_near_its_limits_it_says_so(seen: Any, near: bool) -> None:
    verdict = data_scale(given(seen), data(), losses(), pixels())
    assert bool(verdict.near) is near, (verdict.near, verdict.status)
    assert set(verdict.spread) <= set(verdict.numbers)


def test_a_trained_network_is_compared_with_its_training() -> None:
    seen = columns((0.0, 1.0), (105.0, 30.0), (0.9, 0.05))
    assert data_scale(given(seen, trained="counted"), data(), losses(), pixels()).near == ""
