"""Weights as torch makes them, and weights that something was done to."""

import pytest
import torch
from torch import nn

from nncheck.observe.pretrained import as_made


@pytest.mark.parametrize("seed", range(20))
def test_default_weights_are_as_made(seed: int) -> None:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 64))
    assert as_made(body)


def _one_step(layer: nn.Linear) -> None:
    layer(torch.randn(16, 64)).square().mean().backward()
    torch.optim.Adam(layer.parameters(), lr=1e-3).step()


@pytest.mark.parametrize(
    "change",
    [
        _one_step,
        lambda layer: nn.init.kaiming_normal_(layer.weight),
        lambda layer: nn.init.xavier_uniform_(layer.weight),
        lambda layer: nn.init.trunc_normal_(layer.weight, std=0.02),
        lambda layer: layer.weight.data.mul_(1.02),
        lambda layer: layer.weight.data.mul_(0.95),
    ],
)
def test_other_weights_are_not(change) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    change(layer)
    assert not as_made(layer)


def test_small_layers_tell_nothing() -> None:
    assert not as_made(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
