"""Where NaN and Inf are traced to, and what stands between output and loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck import Recipe
from nncheck.evidence import Evidence
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.lost_gradient import LostGradient
from nncheck.probes.non_finite import NonFinite
from nncheck.target.assemble import assemble
from tests.probes.test_gradients import linear


def evidence(batches: list[tuple[Tensor, Tensor]], loss_fn: object, model: nn.Module | None = None) -> Evidence:
    recipe = Recipe(model=model or linear(), train_loader=batches, loss_fn=loss_fn)
    return Evidence(Sandbox(assemble(recipe), device=torch.device("cpu")))


def ones(*values: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([[float(v), v + 1.0] for v in values]), torch.zeros(len(values), 1)


def test_a_bad_sample_in_a_later_batch() -> None:
    seen = evidence([ones(1, 2), ones(3, 4), ones(5, math.nan)], nn.MSELoss()).get(NonFinite)
    (bad,) = seen.data
    assert (bad.batch, bad.tensor, bad.what, bad.samples, bad.share) == (2, "[0]", "NaN", (1,), 0.5)
    assert seen.runs[0].bad


def test_a_bad_sample_that_is_masked_out() -> None:
    def masked(output: Tensor, target: Tensor) -> Tensor:
        there = ~target.isnan()
        return (output[there] - target[there]).square().mean()

    first, second = ones(1, 2), ones(3, 4)
    second[1][0] = math.nan
    seen = evidence([first, second], masked).get(NonFinite)
    assert seen.data
    assert not seen.runs[0].bad


@pytest.mark.parametrize(
    ("loss_fn", "backward", "word"),
    [
        (lambda o, t: (o * 0 - 1).log().mean(), False, "log() makes NaN"),
        (lambda o, t: (o * -1e30).exp().sum(), False, "exp() makes Inf"),
        (lambda o, t: (o * 0).sqrt().mean() + o.mean(), True, "derivative of sqrt()"),
        (lambda o, t: torch.where(o > 1e9, (o * 0).log(), o).mean(), True, "derivative of log()"),
    ],
)
def test_origin(loss_fn: object, backward: bool, word: str) -> None:
    seen = evidence([ones(1, 2)], loss_fn).get(NonFinite)
    assert seen.backward is backward
    assert seen.origin is not None
    assert word in seen.origin.detail
    assert seen.origin.source is not None


def test_masks_of_minus_infinity_are_no_origin() -> None:
    def attend(output: Tensor, target: Tensor) -> Tensor:
        scores = output.expand(-1, 3).masked_fill(torch.tensor([False, True, True]), -math.inf)
        return (scores.softmax(1) * math.nan).mean()

    seen = evidence([ones(1, 2)], attend).get(NonFinite)
    assert seen.origin is not None
    assert "masked_fill" not in seen.origin.detail


def test_a_batch_with_every_target_ignored() -> None:
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0])
    model = nn.Linear(2, 3)
    seen = evidence([(x, y), (x, y), (x, y), (x, y), (x, torch.full((4,), -100))], nn.CrossEntropyLoss(), model).get(
        NonFinite
    )
    assert [run.batch for run in seen.runs] == [4]
    assert seen.runs[0].bad


def test_clamped_losses_and_clamps_that_are_none() -> None:
    batch = [(torch.tensor([[1.0, 0.0], [5.0, 0.0]]), torch.zeros(2, 1))]
    # The hand-set weights answer 1.5 and 5.5.
    clamped = evidence(batch, lambda o, t: F.mse_loss(o, t, reduction="none").clamp(max=4.0).mean()).get(LostGradient)
    assert [(c.over, c.count, c.bound) for c in clamped.clamped] == [(1, 2, 4.0)]
    clipped = evidence(batch, lambda o, t: (o.clamp(-1.0, 1.0) * torch.tensor([[1.0], [-1.0]])).mean()).get(
        LostGradient
    )
    assert clipped.clamped == ()


def test_squeezed_scores_one_class_and_a_wrapped_loss() -> None:
    batch = [(torch.tensor([[1.0, 0.0], [-5.0, 0.0]]), torch.ones(2, 1))]
    squeezed = evidence(batch, lambda o, t: F.binary_cross_entropy(o.clamp(0, 1), t)).get(LostGradient)
    assert squeezed.squeezed == 1.0
    assert squeezed.squeezed_at is not None
    one = evidence([(batch[0][0], torch.zeros(2, dtype=torch.long))], nn.CrossEntropyLoss()).get(LostGradient)
    assert one.one_class is not None
    wrapped = evidence(batch, lambda o, t: torch.tensor(o.mean().item(), requires_grad=True)).get(LostGradient)
    assert wrapped.rewrapped
    assert not squeezed.rewrapped
