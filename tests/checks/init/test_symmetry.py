"""symmetry on evidence made by hand."""

import dataclasses

import pytest

from nncheck.checks.init.symmetry import symmetry
from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.probes.seeded_layers import Seeded, SeededLayers
from nncheck.probes.unreached import Unreached
from nncheck.verdict import Place, Status
from tests.checks.init.test_gradient_flow import branch, row

HEAD = row("9.weight", 0.1)
NONE = Unreached(branches=())
NO_SEEDS = SeededLayers(found=())
BLOCKS = Seeded(
    kind="Block", names=("1", "2", "3"), matrices=2, size=2304, place=Place(name="Block", file="m.py", line=4)
)


def weights(**changed: object) -> ParameterGradients:
    return dataclasses.replace(row("0.weight", 0.1), **changed)


def steps(*rows: ParameterGradients, losses: int = 3) -> Gradients:
    return Gradients(parameters=(*rows, HEAD), losses=(1.0,) * losses)


ZERO = {"alike_before": True, "weight": (0.0, 0.0, 0.0), "gradients": (0.0,) * 3, "peaks": (0.0,) * 3}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, Status.PASS),
        # Zero at the start, and away from it after a step: a zero head, one factor of an adapter.
        ({"alike_before": True, "weight": (0.0, 0.1, 0.2)}, Status.PASS),
        ({**ZERO, "alike_after": True}, Status.FAIL),
        ({"alike_before": True, "alike_after": True}, Status.FAIL),
        ({"alike_before": True, "alike_after": False}, Status.WARN),
        ({**ZERO, "alike_after": True, "kind": "Attention"}, Status.PASS),
        # A table of equal tokens is told apart by what arrives; a depthwise kernel sees one channel each.
        ({"alike_before": True, "kind": "Embedding"}, Status.PASS),
        ({"alike_before": True, "kind": "Conv2d", "shape": (8, 1, 3, 3)}, Status.PASS),
        ({"alike_before": True, "kind": "Linear", "shape": (2, 8)}, Status.PASS),
        # No gradient at all is unused-parameters' finding.
        ({"alike_before": True, "alike_after": True, "peaks": (None,) * 3}, Status.PASS),
    ],
)
def test_verdict(changed: dict[str, object], status: Status) -> None:
    verdict = symmetry(steps(weights(**changed)), NONE, NO_SEEDS)
    assert verdict.status is status, verdict
    assert verdict.measured


def test_a_term_weighted_zero_is_not_stuck() -> None:
    found = Unreached(branches=(branch("0", "0.weight", zeroed=True),))
    assert symmetry(steps(weights(**{**ZERO, "alike_after": True})), found, NO_SEEDS).status is Status.PASS


def test_skips() -> None:
    bias = dataclasses.replace(row("0.bias", 0.1, shape=(4,)), alike_before=None)
    assert symmetry(Gradients(parameters=(bias,), losses=(1.0,) * 3), NONE, NO_SEEDS).status is Status.SKIP
    assert symmetry(steps(weights(), losses=2), NONE, NO_SEEDS).status is Status.SKIP


def test_a_seed_in_a_block_is_told_after_units_that_are_equal() -> None:
    seeded = SeededLayers(found=(BLOCKS,))
    verdict = symmetry(steps(weights()), NONE, seeded)
    assert verdict.status is Status.WARN
    assert verdict.places[0].line == 4
    assert "3 layers Block" in str(verdict.summary)
    equal = symmetry(steps(weights(alike_before=True, alike_after=True)), NONE, seeded)
    assert equal.status is Status.FAIL
