"""Regularisers, seen where they are used."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe, TargetError
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.regularisers import Regularisers, regularisers
from nncheck.target.assemble import assemble


class _Calls(nn.Module):
    def __init__(self, rate: float, called: float) -> None:
        super().__init__()
        self.layer, self.drop, self.called = nn.Linear(4, 3), nn.Dropout(rate), called

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.dropout(self.drop(self.layer(x)), p=self.called, training=self.training)
        return out


def _look(model: nn.Module, *, decay: float = 0.0, smoothing: float = 0.0, target: float | None = None) -> Regularisers:
    data = TensorDataset(torch.randn(32, 4), torch.randint(3, (32,)))
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=16),
        loss_fn=nn.CrossEntropyLoss(label_smoothing=smoothing),
        optimizer=torch.optim.AdamW(model.parameters(), weight_decay=decay),
        target_error=target,
    )
    return regularisers(Sandbox(assemble(recipe), device=torch.device("cpu")))


def test_each_is_seen_with_its_size() -> None:
    assert _look(nn.Linear(4, 3)) == Regularisers(dropout=0.0, calls=False, decay=0.0, smoothing=0.0, target_error=None)
    found = _look(_Calls(0.3, 0.0), decay=0.05, smoothing=0.1, target=0.02)
    assert found == Regularisers(dropout=0.3, calls=True, decay=0.05, smoothing=0.1, target_error=0.02)
    assert not _look(_Calls(0.0, 0.0)).calls
    called = _look(_Calls(0.0, 0.2))
    assert (called.dropout, called.calls) == (0.0, True)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), True, "2 %"])
def test_an_error_aimed_at_is_a_number_of_zero_or_more(wrong: object) -> None:
    with pytest.raises(TargetError, match="target_error is"):
        _look(nn.Linear(4, 3), target=wrong)  # type: ignore[arg-type]  # what a user may write
