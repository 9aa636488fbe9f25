"""gradient-flow on evidence made by hand: both sides of each threshold."""

import dataclasses
import math

import pytest

from nncheck.checks.init import gradient_flow as limits
from nncheck.checks.init.gradient_flow import gradient_flow, relative
from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.probes.lost_gradient import ClampedLoss, LostGradient
from nncheck.probes.term_shares import Term, TermShares
from nncheck.probes.unreached import Branch, Unreached
from nncheck.verdict import Place, Status


def row(
    name: str, size: float | None, *, shape: tuple[int, ...] = (4, 4), first: float | None = 1.0
) -> ParameterGradients:
    """A parameter with |g| |w| / |loss| = size at three steps, if the loss is 1."""
    sizes = (size, size, size) if first is not None and first else (first, size, size)
    return ParameterGradients(
        name=name,
        layer=name.rpartition(".")[0],
        kind="Linear",
        shape=shape,
        trainable=True,
        gradients=sizes,
        peaks=sizes,
        weight=(1.0, 1.0, 1.0),
        moved=True,
        rate=0.1,
        alike_before=False,
        alike_after=False,
    )


def steps(*sizes: float | None, losses: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Gradients:
    return Gradients(parameters=tuple(row(f"{i}.weight", size) for i, size in enumerate(sizes)), losses=losses)


def lost(**changed: object) -> LostGradient:
    fields = {
        "loss": 1.0, "connected": True, "rewrapped": False, "one_class": None, "squeezed": 0.0, "squeezed_at": None,
        "loss_place": None, "clamped": (),
    }  # fmt: skip
    return LostGradient(**{**fields, **changed})


def branch(name: str, *names: str, **changed: object) -> Branch:
    fields = {
        "name": name, "module": "Linear", "names": names or (f"{name}.weight", f"{name}.bias"), "size": 20, "why": "dropped",
        "silent": True, "owner": "Net", "users": True, "siblings": 0, "routed": False, "calls": 1, "asleep": False, "fresh": False,
        "zeroed": False, "optimized": 2, "drifted": False, "cut": "", "line": None, "place": Place(name=name),
    }  # fmt: skip
    return Branch(**{**fields, **changed})


NONE = Unreached(branches=())
CLAMP = ClampedLoss(bound=1.0, over=1, count=8, place=Place(name="loss"))


ONE_TERM = TermShares(terms=(), shared=0)
LABELS_TERM = Term(
    kind="cross-entropy", place=Place(name="cross_entropy"), weight=1.0, gradient=1.4, labels=True, numbers=False
)
BOXES = Term(kind="smooth-l1", place=Place(name="smooth_l1"), weight=5000.0, gradient=148.0, labels=False, numbers=True)


@pytest.mark.parametrize(
    ("boxes", "labels", "status"),
    [
        ({}, {}, Status.WARN),
        ({"gradient": 71.0}, {}, Status.WARN),
        ({"gradient": 69.0}, {}, Status.PASS),  # small errors with a large weight
        ({"weight": 999.0}, {}, Status.PASS),
        ({"weight": 1000.0}, {}, Status.WARN),
        ({"weight": 1000.0}, {"weight": 1.1}, Status.PASS),
        ({"weight": 1.0}, {"weight": 1e-3}, Status.PASS),  # the labels are an aside: an adversary's, for instance
        ({"numbers": False}, {}, Status.PASS),
        ({}, {"labels": False}, Status.PASS),
        ({"gradient": math.nan}, {}, Status.PASS),
        ({}, {"gradient": 0.0}, Status.PASS),  # others say so
    ],
)
def test_a_term_that_drowns_another(boxes: dict[str, object], labels: dict[str, object], status: Status) -> None:
    pair = (dataclasses.replace(LABELS_TERM, **labels), dataclasses.replace(BOXES, **boxes))
    for terms in (pair, pair[::-1]):
        assert gradient_flow(steps(0.1, 0.2, 0.3), lost(), NONE, TermShares(terms=terms, shared=8)).status is status


@pytest.mark.parametrize(
    ("seen", "loss", "status", "word"),
    [
        (steps(0.1, 0.2, 0.3), lost(), Status.PASS, "3 of 3"),
        (steps(None, None), lost(), Status.FAIL, "no parameter"),
        (steps(None, None), lost(rewrapped=True), Status.FAIL, "made into a new tensor"),
        (steps(0.1, 0.2, 0.3), lost(one_class=Place(name="loss")), Status.FAIL, "one output"),
        (steps(0.1, 0.2, 0.3), lost(squeezed=limits.SQUEEZED), Status.PASS, "3 of 3"),
        (steps(0.1, 0.2, 0.3), lost(squeezed=limits.SQUEEZED + 0.01), Status.FAIL, "squeezed"),
        (steps(0.1, 0.2, 0.3), lost(clamped=(CLAMP,)), Status.WARN, "clamped"),
        (
            steps(0.1, 0.2, 0.3),
            lost(clamped=(ClampedLoss(bound=1, over=0, count=8, place=CLAMP.place),)),
            Status.PASS,
            "",
        ),
        (
            steps(0.1, 0.2, 0.3),
            lost(clamped=(ClampedLoss(bound=1, over=8, count=8, place=CLAMP.place),)),
            Status.FAIL,
            "clamped",
        ),
        # Vanishing: below the size and falling faster than a plain ReLU net does.
        (steps(limits.VANISHING * 1.1, 1e-3, 1e-2, 0.1), lost(), Status.PASS, ""),
        (steps(limits.VANISHING * 0.9, 1e-4, 1e-2, 0.1), lost(), Status.WARN, "vanishes"),
        (steps(*(limits.VANISHING * 0.9 * 2.0**i for i in range(20))), lost(), Status.PASS, ""),
        (
            steps(*(limits.VANISHING * 0.9 * (limits.FACTOR + 0.1) ** i for i in range(8))),
            lost(),
            Status.WARN,
            "vanishes",
        ),
        (steps(limits.VANISHED * 0.9, 1e-6, 1e-3, 0.1), lost(), Status.FAIL, "vanishes"),
        # A small branch in the middle is no vanishing gradient.
        (steps(0.1, 1e-9, 1e-9, 0.1), lost(), Status.PASS, ""),
        (steps(limits.EXPLODING * 1.1, 1e3, 10.0, 1.0), lost(), Status.WARN, "explodes"),
        (steps(limits.EXPLODING * 0.9, 1e3, 10.0, 1.0), lost(), Status.PASS, ""),
        # All large alike: the loss is near zero, nothing explodes.
        (steps(limits.EXPLODING * 10, limits.EXPLODING * 10, limits.EXPLODING * 10), lost(), Status.PASS, ""),
    ],
)
def test_verdict(seen: Gradients, loss: LostGradient, status: Status, word: str) -> None:
    verdict = gradient_flow(seen, loss, NONE, ONE_TERM)
    assert verdict.status is status, verdict
    assert word in f"{verdict.summary} {verdict.measured}"


def test_nothing_trainable_and_a_left_over_graph() -> None:
    assert gradient_flow(Gradients(parameters=(), losses=(1.0,)), lost(), NONE, ONE_TERM).status is Status.SKIP
    broken = Gradients(
        parameters=(row("0.weight", 0.1),), losses=(1.0, 1.0), backward_error="RuntimeError: a second time"
    )
    assert gradient_flow(broken, lost(), NONE, ONE_TERM).status is Status.FAIL


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (branch("0"), Status.FAIL),
        (branch("0", zeroed=True), Status.PASS),
        (branch("0", asleep=True), Status.PASS),
        (branch("0", users=False), Status.PASS),
        (branch("0", siblings=3, routed=True), Status.PASS),
        (branch("0", siblings=3, routed=False), Status.FAIL),
        (branch("0", silent=False), Status.PASS),
        # One bias alone: a key bias in attention has none by construction.
        (branch("0.bias", "0.bias", module=""), Status.PASS),
    ],
)
def test_exact_zeros(found: Branch, status: Status) -> None:
    rows = (row("0.weight", 0.0), row("0.bias", 0.0, shape=(4,)), row("1.weight", 0.1))
    verdict = gradient_flow(
        Gradients(parameters=rows, losses=(1.0,) * 3), lost(), Unreached(branches=(found,)), ONE_TERM
    )
    assert verdict.status is status


def test_exact_zeros_need_three_steps() -> None:
    rows = (row("0.weight", 0.0), row("1.weight", 0.1))
    found = Unreached(branches=(branch("0"),))
    assert gradient_flow(Gradients(parameters=rows, losses=(1.0, 1.0)), lost(), found, ONE_TERM).status is Status.PASS


def test_relative_size() -> None:
    assert relative(row("0.weight", 0.5), (2.0, 2.0, 2.0)) == pytest.approx(0.25)
    assert relative(row("0.bias", 0.5, shape=(4,)), (1.0,) * 3) is None
    assert relative(row("0.weight", None), (1.0,) * 3) is None
    # Asleep at the first step: a zero-initialised branch stands before it.
    assert relative(row("0.weight", 1e-12, first=0.0), (1.0,) * 3) is None
    assert relative(row("0.weight", 0.5), (math.nan, 0.0, 1.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "near"),
    [
        ((9e-6, 1e-4, 1e-3, 1e-2), True),
        ((1.1e-5, 1e-4, 1e-3, 1e-2), True),
        ((1e-6, 1e-4, 1e-3, 1e-2), False),
        ((1e-4, 1e-3, 1e-2, 1e-1), False),
        ((1.1e4, 1.0, 1.0, 1.0), True),
        ((9e3, 1.0, 1.0, 1.0), True),
        ((9e3, 100.0, 100.0, 100.0), False),  # and not that far above the last layer's
        ((1e5, 1.0, 1.0, 1.0), False),
    ],
)
def test_near_its_limits_it_says_so(sizes: tuple[float, ...], near: bool) -> None:
    verdict = gradient_flow(steps(*sizes), lost(), NONE, ONE_TERM)
    assert bool(verdict.near) is near, verdict.near
    assert set(verdict.spread) <= set(verdict.numbers)
