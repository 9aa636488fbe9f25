"""optimizer-replaced over evidence made by hand."""

import dataclasses

import pytest

from nncheck.checks.loop.optimizer_replaced import OFTEN, optimizer_replaced
from nncheck.probes.optimizers_seen import OptimizersSeen
from nncheck.verdict import Status

HEALTHY = OptimizersSeen(
    kind="Adam", steps=24, epochs=3, anew=0, lost=0, lived=0, same_line=False, made_at=None, models=0, strange=0,
    untrained=(), fresh=0, parameters=500, replaced_at=None, times=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.PASS),
        ({"anew": OFTEN, "lost": OFTEN, "lived": 8}, Status.FAIL),
        ({"anew": OFTEN, "lost": 0, "lived": 8}, Status.PASS),  # no state to lose
        ({"anew": OFTEN - 1, "lost": 1, "lived": 8}, Status.PASS),
        ({"anew": OFTEN - 1, "lost": 1, "lived": 8, "same_line": True}, Status.FAIL),
        ({"models": OFTEN}, Status.WARN),
        ({"models": OFTEN - 1}, Status.PASS),
        ({"times": OFTEN, "strange": 500, "untrained": ("head.weight",), "fresh": 500}, Status.FAIL),
        ({"times": OFTEN - 1, "strange": 99, "untrained": ("head.weight",), "fresh": 99}, Status.PASS),
        ({"steps": 1, "times": 1, "strange": 99, "untrained": ("head.weight",), "fresh": 99}, Status.FAIL),
    ],
)
def test_both_sides(changes: dict[str, object], status: Status) -> None:
    verdict = optimizer_replaced(dataclasses.replace(HEALTHY, **changes))  # type: ignore[arg-type]
    assert verdict.status is status
    assert verdict.measured


def test_a_layer_is_told_from_a_model() -> None:
    layer = dataclasses.replace(HEALTHY, times=2, strange=99, untrained=("head.weight",), fresh=99)
    assert "layer" in optimizer_replaced(layer).summary
    assert "a model that does not run" in optimizer_replaced(dataclasses.replace(layer, strange=500)).summary
