"""What a loss makes of the targets themselves, on losses whose values are known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.loss_at_truth import LossAtTruth, loss_at_truth
from nncheck.target.assemble import assemble


def _dice(output: Tensor, target: Tensor) -> Tensor:
    return 1 - 2 * (output * target).sum() / (output + target).sum()


def _seen(loss: object, y: Tensor | None = None) -> LossAtTruth:
    torch.manual_seed(0)
    model = nn.Linear(4, 6)
    y = (torch.rand(16, 6) < 0.4).float() if y is None else y
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(torch.randn(16, 4), y), batch_size=16),
        loss_fn=loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    return loss_at_truth(Sandbox(assemble(recipe), device=torch.device("cpu")))


def test_dice_of_the_targets_and_of_three_times_these() -> None:
    seen = _seen(_dice)
    assert seen.asked
    assert (seen.at_truth, seen.beyond) == pytest.approx((0.0, -0.5))
    assert seen.outside > 0.3
    assert seen.low < 0


def test_a_squared_error_by_hand_rises_beyond_the_targets() -> None:
    seen = _seen(lambda output, target: ((output - target) ** 2).mean())
    assert seen.at_truth == 0
    assert seen.beyond > 0.5


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (F.mse_loss, None),  # torch's own
        (_dice, torch.rand(16, 6)),  # no labels
        (_dice, torch.zeros(16, 6)),
        (lambda output, target: _dice(output.sigmoid()[:, 0], target), (torch.arange(16) % 2).float()),
    ],
)
def test_not_asked(loss: object, y: Tensor | None) -> None:
    assert not _seen(loss, y).asked
