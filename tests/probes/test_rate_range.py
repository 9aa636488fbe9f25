"""The range test on networks whose best rates are known, and the suggestions read from a curve made by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.errors import CannotMeasure
from nncheck.evidence import Evidence
from nncheck.lab.held import Level
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.rate_range import RateRange, RateRun, settled
from nncheck.registry import load
from nncheck.target.assemble import assemble


def _quadratic(
    rate: float, *, optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, scale: float = 1.0
) -> RateRange:
    """Least squares on whitened inputs: the Hessian is 2 / 4 times the identity, so that SGD diverges above a rate of 4.

    A quarter of the variance is noise, so that the loss has a floor to blow up from.
    """
    load()
    generator = torch.Generator().manual_seed(0)
    x = torch.linalg.qr(torch.randn(512, 4, generator=generator))[0] * math.sqrt(512)
    y = x + 0.5 * torch.randn(512, 4, generator=generator)
    model = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(model.weight)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return scale * nn.functional.mse_loss(output, target)

    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True),
        loss_fn=loss_fn,
        optimizer=optimizer(model.parameters(), lr=rate),  # type: ignore[call-arg]
    )
    return Evidence(Sandbox(assemble(recipe), device=torch.device("cpu"))).get(RateRange)


def test_the_rate_at_which_a_quadratic_diverges_is_found() -> None:
    found = _quadratic(0.1)
    assert found.diverges is not None
    assert 4 < found.diverges < 30  # it must have grown fourfold since
    assert found.minimum is not None
    assert 0.5 < found.minimum < 6
    assert found.searchable is not None
    assert found.searchable[0] < 0.5 < found.searchable[1] * 2
    assert found.tried == ()


def test_a_steeper_loss_diverges_at_a_lower_rate() -> None:
    one, ten = _quadratic(0.1).diverges, _quadratic(0.01, scale=10.0).diverges
    assert one is not None
    assert ten is not None
    assert 5 < one / ten < 20


def test_lower_rates_are_tried_after_a_divergence() -> None:
    found = _quadratic(40.0)
    assert found.tried
    assert found.tried[-1].factor is not None
    assert found.tried[-1].factor < 1
    assert found.tried[-1].fall[1] > 6


def test_higher_rates_are_tried_where_nothing_moves() -> None:
    found = _quadratic(1e-7)
    assert [run.factor is not None and run.factor > 1 for run in found.tried] == [True] * len(found.tried)


def test_an_optimizer_without_a_rate_to_change_is_left_alone() -> None:
    with pytest.raises(CannotMeasure, match="LBFGS"):
        _quadratic(1.0, optimizer=torch.optim.LBFGS)


def test_suggestions_of_a_curve() -> None:
    smooth = (2.0, 2.0, 2.0, 2.0, 2.0, 1.9, 1.7, 1.2, 1.0, 0.9, 1.5, 9.0)
    rates = tuple(10.0 ** (i - 9) for i in range(12))
    found = RateRange(
        optimizer="SGD", rate=0.1, rates=rates, losses=smooth, smooth=smooth, ended=True, momentum=None, betas=None,
        control=None, tried=(), pretrained="", clips=False,
    )  # fmt: skip
    assert found.diverges == rates[-1]
    assert found.minimum == rates[9]
    assert found.steepest == rates[6]
    assert found.valley == rates[4 + 5 * 2 // 3]
    assert found.searchable == (rates[6], rates[9])


def _tried(gain: float, lead_t: float, spread: float = 0.01) -> RateRun:
    """A run that takes 200 losses of about 1 down by `gain` each, give or take `spread`."""
    before = tuple(1.0 + 0.1 * (i % 2) for i in range(200))
    after = tuple(b - gain + spread * (-1) ** (i // 2) for i, b in enumerate(before))
    levels = [Level(losses=losses, apart=True, wrong=None) for losses in (before, after)]
    return RateRun(
        optimizer="SGD", factor=0.1, rate=0.1, losses=(), before=levels[0], after=levels[1], lead=(1.0, lead_t)
    )


@pytest.mark.parametrize(
    ("tried", "diverged", "enough"),
    [
        (_tried(0.2, 7.0), False, True),
        (_tried(0.2, 5.0), False, False),  # ahead of the set-up's own rate by chance, perhaps
        (_tried(0.2, 5.0), True, True),
        (_tried(0.09, 7.0), True, False),  # certain, but less than a tenth: a lower rate may do more
        (_tried(0.2, 7.0, spread=1.0), True, False),  # a fall with t = 2.8
        (_tried(-0.2, 7.0), True, False),
    ],
)
def test_lower_rates_are_tried_until_one_trains_beyond_doubt(tried: RateRun, diverged: bool, enough: bool) -> None:
    assert settled(tried, diverged) is enough
