"""Bounds that functions set, followed through what is done to the values, and what they take from a loss."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.ranges import Ranges
from nncheck.observe.watch import Watch
from nncheck.probes.output_range import OutputRange
from nncheck.target.assemble import assemble
from nncheck.verdict import Place

INF = math.inf
W = torch.ones(4, requires_grad=True)


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda x: x.relu(), 0, INF),
        (lambda x: torch.tanh(x) * 2 + 1, -1, 3),
        (lambda x: 5 * torch.sigmoid(x).view(4, 2), 0, 5),
        (lambda x: 1 - torch.sigmoid(x), 0, 1),
        (lambda x: -F.softplus(x), -INF, 0),
        (lambda x: x.clamp(-2, 2)[:1].squeeze(), -2, 2),
        (lambda x: torch.sigmoid(x).clamp(1e-3, 1 - 1e-3), 1e-3, 1 - 1e-3),
        (lambda x: (torch.tanh(x) + 1) / 2, 0, 1),
        (lambda x: torch.cat([x.relu(), x.tanh()]), -1, INF),
        (lambda x: F.dropout(torch.sigmoid(x), 0.5, True), 0, INF),
        (lambda x: x.exp().mean(0), 0, INF),
        (lambda x: F.elu(x, 0.5), -0.5, INF),
        (lambda x: x.relu() * torch.tensor([1.0, -1.0, 1.0, 1.0]), -INF, INF),
    ],
)
def test_bounds(make, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
    bound = _bound(make)
    if math.isinf(low) and math.isinf(high):
        assert bound is None
    else:
        assert bound is not None
        assert (bound.low, bound.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x + 1,
        lambda x: x.relu() * W,
        lambda x: x.tanh() + W,
        lambda x: x * torch.sigmoid(x),
        lambda x: x.tanh() @ W,
    ],
)
def test_no_bound(make) -> None:  # type: ignore[no-untyped-def]
    assert _bound(make) is None


def test_what_is_overwritten_has_no_bound() -> None:
    def make(x: Tensor) -> Tensor:
        y = x.relu()
        y[0] = x[0]
        return y

    assert _bound(make) is None


def _bound(make):  # type: ignore[no-untyped-def]
    x = torch.randn(2, 4, requires_grad=True) * 1.0
    ranges = Ranges(lambda call: Place(name=call.name))
    with Watch(nn.Identity(), calls=(ranges,)):
        result = make(x)
    return ranges.of(result)


def _reach(last: nn.Module, target: Tensor, loss_fn: nn.Module, outputs: int = 1) -> OutputRange:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, outputs), last)
    setup = assemble(Recipe(model=model, train_loader=[(torch.randn(len(target), 3), target)], loss_fn=loss_fn))
    return Evidence(Sandbox(setup, device=torch.device("cpu"))).get(OutputRange)


def test_the_floor_of_a_squared_error_is_the_squared_overshoot() -> None:
    target = torch.tensor([[-2.0], [0.5], [3.0], [1.0]])
    (reach,) = _reach(nn.Tanh(), target, nn.MSELoss()).reaches
    assert reach.floor == pytest.approx((1 + 4) / 4)
    assert reach.outside == 0.5
    assert reach.constant == pytest.approx(float(target.var(correction=0)))


@pytest.mark.parametrize("classes", [2, 10])
def test_the_floor_of_bounded_scores(classes: int) -> None:
    target = torch.arange(40) % classes
    (reach,) = _reach(nn.Tanh(), target, nn.CrossEntropyLoss(), classes).reaches
    assert reach.floor == pytest.approx(math.log(1 + (classes - 1) * math.exp(-2)))


def test_the_floor_of_bounded_logits() -> None:
    target = (torch.arange(40) % 2).float()[:, None]
    (reach,) = _reach(nn.ReLU(), target, nn.BCEWithLogitsLoss()).reaches
    assert reach.floor == pytest.approx(math.log(2) / 2)


def test_a_linear_head_has_no_bound() -> None:
    seen = _reach(nn.Identity(), torch.randn(8, 1), nn.MSELoss())
    assert seen.reaches == ()
    assert seen.unbounded == 1
