"""unused-parameters on evidence made by hand."""

import dataclasses

import pytest

from nncheck.checks.wiring.unused_parameters import unused_parameters
from nncheck.probes.gradients import Gradients
from nncheck.probes.repeated_layers import Repeated, RepeatedLayers
from nncheck.probes.unreached import Unreached
from nncheck.verdict import Place, Status
from tests.checks.init.test_gradient_flow import branch, row, steps

NO_LISTS = RepeatedLayers(found=())
STACK = Repeated(
    name="blocks", layer="blocks.0", module="Block", owner="Net", entries=3, length=3, calls=3, chained=2, size=1000, users=True,
    place=Place(name="blocks", file="m.py", line=5),
)  # fmt: skip
SEEN = Gradients(parameters=(row("0.weight", None), row("1.weight", 0.1)), losses=(1.0,) * 8)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"why": "cut", "cut": "detach()", "line": Place(name="Net", file="m.py", line=3)}, Status.FAIL),
        ({"why": "no_grad"}, Status.WARN),
        ({"why": "dropped"}, Status.WARN),
        ({"why": "never used"}, Status.WARN),
        ({"why": "never used", "users": False}, Status.PASS),
        ({"why": "dropped", "users": False}, Status.PASS),
        ({"why": "no_grad", "asleep": True}, Status.PASS),
        ({"why": "no_grad", "optimized": 0}, Status.PASS),
        ({"why": "cut", "drifted": True}, Status.PASS),
        ({"why": "never used", "siblings": 3, "routed": True}, Status.PASS),
        ({"why": "never used", "siblings": 3}, Status.WARN),
    ],
)
def test_verdict(changed: dict[str, object], status: Status) -> None:
    found = branch("0", "0.weight", **{"silent": False, **changed})
    verdict = unused_parameters(SEEN, Unreached(branches=(found,)), NO_LISTS)
    assert verdict.status is status, verdict
    assert verdict.numbers["without_gradient"] == 1
    assert verdict.exhibits


@pytest.mark.parametrize(
    ("name", "status"), [("backbone", Status.PASS), ("target_net", Status.PASS), ("encoder", Status.WARN)]
)
def test_names_that_say_frozen_under_no_grad(name: str, status: Status) -> None:
    found = branch(name, "0.weight", silent=False, why="no_grad")
    assert unused_parameters(SEEN, Unreached(branches=(found,)), NO_LISTS).status is status


@pytest.mark.parametrize(
    ("name", "cut", "fresh", "status"),
    [
        ("backbone", ".data", True, Status.WARN),
        ("backbone", ".data", False, Status.PASS),
        ("backbone", "detach()", True, Status.PASS),
        ("pretrained_body", "tolist()", True, Status.WARN),
        ("teacher", ".data", True, Status.PASS),
    ],
)
def test_a_random_backbone_behind_an_odd_cut_is_not_meant(name: str, cut: str, fresh: bool, status: Status) -> None:
    found = branch(name, "0.weight", silent=False, why="cut", cut=cut, fresh=fresh)
    assert unused_parameters(SEEN, Unreached(branches=(found,)), NO_LISTS).status is status


def test_nothing_reached_nothing_trainable_nothing_missing() -> None:
    none = Unreached(branches=())
    assert unused_parameters(Gradients(parameters=(), losses=(1.0,)), none, NO_LISTS).status is Status.SKIP
    assert unused_parameters(steps(0.1, 0.2), none, NO_LISTS).status is Status.PASS
    every = Unreached(branches=(branch("0", "0.weight", silent=False),))
    assert unused_parameters(steps(None), every, NO_LISTS).status is Status.SKIP


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, Status.WARN),
        ({"entries": 2, "chained": 1}, Status.WARN),
        ({"chained": 1}, Status.PASS),  # heads side by side
        ({"calls": 0, "chained": 0}, Status.PASS),
        ({"users": False}, Status.PASS),
        ({"name": "shared_blocks"}, Status.PASS),
        ({"module": "LSTMCell"}, Status.PASS),
        ({"owner": "Albert"}, Status.PASS),
    ],
)
def test_one_layer_several_times(changed: dict[str, object], status: Status) -> None:
    none = Unreached(branches=())
    lists = RepeatedLayers(found=(dataclasses.replace(STACK, **changed),))
    verdict = unused_parameters(steps(0.1, 0.2), none, lists)
    assert verdict.status is status, verdict
    if status is Status.WARN:
        assert verdict.places[0].line == 5
