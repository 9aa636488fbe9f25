"""validation-data over evidence made by hand."""

import dataclasses
from typing import Any

import pytest

from nncheck.checks.loop.validation_data import FEWEST_ROWS, STEPPED, WHOLE, validation_data
from nncheck.probes.rows_seen import RowsSeen
from nncheck.probes.validation_course import LoaderCourse, ValidationCourse
from nncheck.verdict import Place, Status

LOOP = Place(name="loop", file="train.py", line=20)
TRAIN = LoaderCourse(
    variables=("train_loader",), functions=(), targets=(), loop=LOOP, made=None, first=True, steps=24, alone=24, calls=24,
    evaluating=0, free=0, looks=0, same="loader", share=1.0,
)  # fmt: skip
VALIDATION = LoaderCourse(
    variables=("val_loader",), functions=("evaluate",), targets=("acc",), loop=LOOP, made=None, first=False, steps=0, alone=0,
    calls=12, evaluating=12, free=12, looks=3, same="", share=0.0,
)  # fmt: skip
SPENT = {"same": "data set", "share": 1.0}
STEPPING = {"steps": 9, "alone": 9, "looks": 0, "same": "loader", "share": 1.0}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.PASS),
        ({"share": -1.0}, Status.PASS),
        (SPENT, Status.FAIL),
        (SPENT | {"same": "equal data set"}, Status.FAIL),
        (SPENT | {"share": WHOLE}, Status.FAIL),
        (SPENT | {"share": WHOLE - 0.01}, Status.PASS),
        (SPENT | {"looks": 0}, Status.PASS),
        (SPENT | {"variables": ("train_eval_loader",)}, Status.PASS),
        (SPENT | {"variables": ("loader",)}, Status.PASS),
        (SPENT | {"variables": ("self.test_dl",)}, Status.FAIL),
        (SPENT | {"targets": ("train_acc",)}, Status.PASS),
        (STEPPING, Status.FAIL),
        (STEPPING | {"alone": STEPPED}, Status.FAIL),
        (STEPPING | {"alone": STEPPED - 1}, Status.PASS),
        (STEPPING | {"variables": ("unlabelled",)}, Status.FAIL),  # in eval mode, as no other
        (STEPPING | {"variables": ("unlabelled",), "evaluating": 0}, Status.PASS),
    ],
)
def test_both_sides(changes: dict[str, object], status: Status) -> None:
    other = dataclasses.replace(VALIDATION, **changes)  # type: ignore[arg-type]
    assert validation_data(ValidationCourse(loaders=(TRAIN, other), unused=()), None).status is status


@pytest.mark.parametrize(
    ("changes", "unused", "status"),
    [
        ({}, (), Status.PASS),
        ({"functions": ("evaluate",), "targets": ("acc",)}, (), Status.PASS),
        ({"functions": ("validate",)}, (), Status.FAIL),
        ({"targets": ("val_acc",)}, (), Status.FAIL),
        ({"functions": ("validate",), "targets": ("train_acc",)}, (), Status.PASS),
        ({}, (Place(name="valid_dl"),), Status.FAIL),
        ({}, (Place(name="noise"),), Status.PASS),
    ],
)
def test_a_look_at_the_training_loader_itself(
    changes: dict[str, object], unused: tuple[Place, ...], status: Status
) -> None:
    looked = dataclasses.replace(TRAIN, looks=3, **changes)  # type: ignore[arg-type]
    assert validation_data(ValidationCourse(loaders=(looked,), unused=unused), None).status is status


def test_a_look_at_other_samples_is_a_validation() -> None:
    looked = dataclasses.replace(TRAIN, looks=3, functions=("validate",))
    assert validation_data(ValidationCourse(loaders=(looked, VALIDATION), unused=()), None).status is Status.PASS


def test_without_loaders_nothing_is_said() -> None:
    assert validation_data(ValidationCourse(loaders=(), unused=()), None).status is Status.SKIP


ROWS = RowsSeen(trained=96, looked=64, shared=64, variables=("x_valid",), unused=(), place=LOOP)
UNUSED = (Place(name="x_valid"),)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.FAIL),
        ({"shared": 63}, Status.PASS),
        ({"variables": ("inputs",)}, Status.PASS),
        ({"variables": ("inputs",), "unused": UNUSED}, Status.FAIL),
        ({"variables": ("inputs",), "unused": (Place(name="noise"),)}, Status.PASS),
        ({"looked": FEWEST_ROWS, "shared": FEWEST_ROWS}, Status.FAIL),
        ({"looked": FEWEST_ROWS - 1, "shared": FEWEST_ROWS - 1}, Status.SKIP),
        ({"looked": 0, "shared": 0}, Status.SKIP),
    ],
)
def test_rows_of_a_script_without_loaders(changes: dict[str, Any], status: Status) -> None:
    verdict = validation_data(ValidationCourse(loaders=(), unused=()), dataclasses.replace(ROWS, **changes))
    assert verdict.status is status
