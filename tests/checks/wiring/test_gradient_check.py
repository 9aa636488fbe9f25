"""gradient-check on evidence made by hand."""

from dataclasses import replace
from math import nan

import pytest

from nncheck.checks.wiring.gradient_check import gradient_check
from nncheck.observe.functions import ArgumentError, FunctionErrors
from nncheck.probes.gradient_errors import GradientErrors, Moment
from nncheck.verdict import Place, Status

HERE = Place(name="first.weight", file="model.py", line=3)


def moment(*errors: float, **changes: object) -> Moment:
    steps = (1e-5, 1e-6, 1e-4)
    found = Moment(when="at init", loss=1.0, tensors=4, errors=tuple(zip(steps, errors, strict=False)), parameter=HERE)
    return replace(found, **changes)


def function(error: float, factor: float = nan, **changes: object) -> FunctionErrors:
    argument = ArgumentError(argument="argument 1", error=error, factor=factor, shape="[8]")
    found = FunctionErrors(
        name="Mine", calls=1, arguments=(argument,), identity=False, flat=False, declared="", place=HERE, used=HERE
    )
    return replace(found, **changes)


def errors(*moments: Moment, functions: tuple[FunctionErrors, ...] = (), **changes: object) -> GradientErrors:
    found = GradientErrors(samples=8, precision="float64", moments=moments, cuts=(), functions=functions)
    return replace(found, **changes)


OFF = (0.3, 0.3, 0.3)
CUT = (Place(name="net", detail="detach()"),)


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        (errors(moment(1e-11)), Status.PASS),
        (errors(moment(2e-5, 1e-4, 5e-4)), Status.PASS),
        (errors(moment(0.3, 9e-4, 0.3)), Status.PASS),  # right at one step width
        (errors(moment(*OFF)), Status.WARN),
        (errors(moment(*OFF), moment(1e-11)), Status.PASS),  # a kink at init only
        (errors(moment(*OFF), cuts=CUT), Status.PASS),
        (errors(moment(*OFF, bend=0.5)), Status.PASS),  # a kink right here
        (errors(moment(*OFF, steady=False)), Status.PASS),
        (errors(moment(*OFF), precision="float32"), Status.PASS),
        (errors(moment(*OFF), functions=(function(0.3),)), Status.FAIL),
        (errors(moment(*OFF), functions=(function(0.3),), cuts=CUT), Status.FAIL),
        (errors(moment(1e-11), functions=(function(0.3),)), Status.FAIL),
        (errors(moment(1e-11), functions=(function(1.1e-3),)), Status.FAIL),
        (errors(moment(1e-11), functions=(function(0.9e-3),)), Status.PASS),
        (errors(moment(1e-11), functions=(function(nan),)), Status.PASS),
        (errors(moment(*OFF), functions=(function(2.0, -1.0, identity=True),)), Status.PASS),
        (errors(moment(*OFF), functions=(function(1.0, 0.0, flat=True),)), Status.PASS),
        (errors(moment(*OFF), functions=(function(0.3, declared="surrogate"),)), Status.PASS),
        (errors(moment(nan)), Status.PASS),
        (errors(), Status.PASS),
    ],
)
def test_verdicts(evidence: GradientErrors, status: Status) -> None:
    assert gradient_check(evidence).status is status


@pytest.mark.parametrize(
    ("factor", "word"), [(-1.0, "sign"), (2.0, "2 times"), (0.0, "does not depend"), (nan, "mask")]
)
def test_the_cause_fits_the_factor(factor: float, word: str) -> None:
    verdict = gradient_check(errors(moment(*OFF), functions=(function(0.5, factor),)))
    assert word in verdict.causes[0]
    assert verdict.exhibits[0].kind == "table"
