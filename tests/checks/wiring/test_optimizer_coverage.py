"""optimizer-coverage on evidence made by hand."""

import dataclasses

import pytest

from nncheck.checks.wiring.optimizer_coverage import optimizer_coverage
from nncheck.probes.graph_leaves import GraphLeaves, Group, Stray, Twins, Typo, Uncovered
from nncheck.verdict import Place, Status
from tests.checks.init.test_gradient_flow import row, steps

SEEN = steps(0.1, 0.1, 0.1)
FINE = GraphLeaves(
    covered=("0.weight", "1.weight"), trained=("0.weight", "1.weight"), frozen=0, share=1.0, uncovered=(), strays=(), stale=(),
    repeated=(), groups=(Group(index=0, rate=0.1, scheduled=False, names=("0.weight",), trainable=2),), typos=(), twins=(),
    random_head=None, optimizer="Adam", optimizer_place=None, default_optimizer=False,
)  # fmt: skip


def stray(how: str, **changed: object) -> Stray:
    fields = {
        "path": "layers[0].weight", "how": how, "shape": (4, 4), "optimized": False, "elsewhere": False, "asleep": False,
        "parameter": True, "place": None, "used": None,
    }  # fmt: skip
    return Stray(**{**fields, **changed})


def left_out(**changed: object) -> Uncovered:
    fields = {"name": "head.weight", "shape": (4, 4), "elsewhere": False, "asleep": False, "place": None}
    return Uncovered(**{**fields, **changed})


def group(**changed: object) -> Group:
    return Group(**{"index": 1, "rate": 0.0, "scheduled": False, "names": ("0.weight",), "trainable": 1, **changed})


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({}, Status.PASS, "holds 2"),
        *[
            ({"strays": (stray(how),)}, Status.FAIL, "not registered")
            for how in ("list", "dict", "tuple", "tensor", "computed")
        ],
        ({"strays": (stray("forward"),)}, Status.FAIL, "every forward"),
        ({"strays": (stray("loss"),)}, Status.WARN, "not in Adam"),
        ({"strays": (stray("closure", parameter=False),)}, Status.PASS, ""),
        ({"strays": (stray("list", optimized=True),)}, Status.PASS, ""),
        ({"strays": (stray("list", elsewhere=True),)}, Status.PASS, ""),
        ({"strays": (stray("list", asleep=True),)}, Status.PASS, ""),
        ({"strays": (stray("loss"),), "default_optimizer": True}, Status.PASS, ""),
        ({"uncovered": (left_out(),)}, Status.FAIL, "head.weight is trainable"),
        ({"uncovered": (left_out(),), "stale": ((4, 4),)}, Status.FAIL, "no longer has"),
        ({"stale": ((4, 4),)}, Status.PASS, ""),
        ({"uncovered": (left_out(elsewhere=True),)}, Status.PASS, ""),
        ({"uncovered": (left_out(asleep=True),)}, Status.PASS, ""),
        ({"uncovered": (left_out(name="netD.0.weight"),)}, Status.PASS, ""),
        ({"uncovered": (left_out(),), "default_optimizer": True}, Status.PASS, ""),
        # What the optimizer holds gets nothing: the cut is the finding, not what lies behind it.
        ({"uncovered": (left_out(),), "trained": ()}, Status.PASS, ""),
        ({"groups": (group(),)}, Status.FAIL, "lr=0"),
        ({"groups": (group(scheduled=True),)}, Status.PASS, ""),
        ({"groups": (group(trainable=0),)}, Status.PASS, ""),
        ({"groups": (group(rate=1e-9),)}, Status.PASS, ""),
        ({"repeated": ("0.weight",)}, Status.WARN, "twice"),
        (
            {"typos": (Typo(attribute="require_grad", owner="0", names=("0.weight",), place=None),)},
            Status.WARN,
            "nothing",
        ),
        ({"twins": (Twins(teacher="ema", student="net", place=None),)}, Status.WARN, "copy of net"),
        ({"random_head": Place(name="head"), "share": 0.009, "frozen": 3}, Status.WARN, "random start"),
        ({"random_head": Place(name="head"), "share": 0.011, "frozen": 3}, Status.PASS, ""),
    ],
)
def test_verdict(changed: dict[str, object], status: Status, word: str) -> None:
    verdict = optimizer_coverage(dataclasses.replace(FINE, **changed), SEEN)
    assert verdict.status is status, verdict
    assert word in f"{verdict.summary} {verdict.measured}"


def test_updates_that_are_lost() -> None:
    still = dataclasses.replace(row("0.weight", 0.1), moved=False)
    seen = dataclasses.replace(SEEN, parameters=(still, row("1.weight", 0.1)))
    assert optimizer_coverage(FINE, seen).status is Status.FAIL
    # Below float32's resolution nothing is lost that could be kept.
    tiny = dataclasses.replace(still, gradients=(1e-9,) * 3)
    assert optimizer_coverage(FINE, dataclasses.replace(seen, parameters=(tiny,))).status is Status.PASS
    warming = dataclasses.replace(still, rate=0.0)
    assert optimizer_coverage(FINE, dataclasses.replace(seen, parameters=(warming,))).status is Status.PASS
    # An optimizer that wants a closure was not asked.
    assert optimizer_coverage(FINE, dataclasses.replace(seen, stepped=False)).status is Status.PASS


def test_a_step_that_raises_and_nothing_to_train() -> None:
    raising = dataclasses.replace(SEEN, step_error="RuntimeError: sparse")
    assert "sparse" in optimizer_coverage(FINE, raising).summary
    nothing = dataclasses.replace(FINE, covered=(), trained=())
    assert optimizer_coverage(nothing, SEEN).status is Status.SKIP
