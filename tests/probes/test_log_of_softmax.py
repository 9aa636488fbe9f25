"""Which logarithms of a softmax are found, and what the loss becomes where scores lie far apart."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.log_of_softmax import LogOfSoftmax, log_of_softmax
from nncheck.target.assemble import assemble


def _seen(loss: object) -> LogOfSoftmax:
    torch.manual_seed(0)
    model = nn.Linear(4, 5)
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(torch.randn(32, 4), torch.arange(32) % 5), batch_size=32),
        loss_fn=loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    return log_of_softmax(Sandbox(assemble(recipe), device=torch.device("cpu")))


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum(1).mean()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: F.nll_loss(torch.log(x.softmax(1)), y),
        lambda x, y: -torch.log(F.softmax(x, dim=1)).gather(1, y[:, None]).mean(),
        lambda x, y: -x.softmax(-1).gather(1, y[:, None]).log().mean(),
        lambda x, y: -x.softmax(-1).log()[torch.arange(len(y)), y].mean(),
    ],
)
def test_found_and_not_finite(loss: object) -> None:
    seen = _seen(loss)
    assert seen.place is not None
    assert math.isfinite(seen.loss)
    assert not math.isfinite(seen.stretched)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: F.nll_loss(x.log_softmax(1), y),
        lambda x, y: F.nll_loss((x.softmax(1) + 1e-8).log(), y),
        lambda x, y: F.cross_entropy(x, y) - 0.01 * _entropy(x.softmax(1)),
        lambda x, y: -F.logsigmoid(x.gather(1, y[:, None])).mean(),
    ],
)
def test_nothing_found(loss: object) -> None:
    assert _seen(loss).place is None
