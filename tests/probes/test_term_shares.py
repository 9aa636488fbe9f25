"""What each term of a loss sends to the parameters that they share."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.initial_loss import initial_loss
from nncheck.probes.term_shares import TermShares, term_shares
from nncheck.target.assemble import assemble


class _TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 16)
        self.kind, self.box = nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.body(x))
        return self.kind(h), self.box(h)


def _terms(
    weight: float, *, apart: bool = False, one_label: bool = False
) -> tuple[TermShares, _TwoHeads, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x, boxes = torch.randn(64, 6, generator=generator), torch.rand(64, 4, generator=generator)
    labels = torch.zeros(64).long() if one_label else torch.randint(3, (64,), generator=generator)
    torch.manual_seed(0)
    model = _TwoHeads()

    def step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        rows, label, box = batch
        kind, place = model(rows)
        other = model.box(rows.new_ones(len(rows), 16)) if apart else place
        return F.cross_entropy(kind, label) + weight * F.mse_loss(other, box)

    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, labels, boxes), batch_size=64),
        training_step=step,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )
    sandbox = Sandbox(assemble(recipe), device=torch.device("cpu"))
    return term_shares(sandbox, initial_loss(sandbox)), model, [x, labels, boxes]


def test_weights_and_gradients_are_those_of_plain_autograd() -> None:
    found, model, (x, labels, boxes) = _terms(2000.0)
    kind, box = model(x)
    expected = []
    for value in (F.cross_entropy(kind, labels), 2000 * F.mse_loss(box, boxes)):
        sent = torch.autograd.grad(value, list(model.body.parameters()), retain_graph=True)
        expected.append(float(torch.cat([g.flatten() for g in sent]).norm()))
    assert found.shared == 2
    assert [t.gradient for t in found.terms] == pytest.approx(expected, rel=1e-4)
    assert [t.weight for t in found.terms] == pytest.approx([1.0, 2000.0])
    assert [(t.labels, t.numbers) for t in found.terms] == [(True, False), (False, True)]


def test_weights_near_each_other_and_terms_that_share_nothing() -> None:
    assert not _terms(99.0)[0].terms
    assert _terms(101.0)[0].terms
    assert not _terms(2000.0, apart=True)[0].terms


def test_a_single_label_is_none_to_be_learned() -> None:
    assert not any(term.labels for term in _terms(2000.0, one_label=True)[0].terms)
