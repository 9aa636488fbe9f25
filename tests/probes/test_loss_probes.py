"""What the loss probes measure, on set-ups whose answers are known."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.assemble import assemble
from nncheck.probes.initial_loss import initial_loss
from nncheck.probes.label_baseline import label_baseline, spelled
from nncheck.probes.loss_inputs import loss_inputs
from nncheck.probes.target_pairing import target_pairing
from nncheck.sandbox import Sandbox
from tests.cases.loss_at_init import Classifier, recipe
from tests.cases.loss_broadcast import tagging

Loss = Callable[[Tensor, Tensor], Tensor]


def _sandbox(made: Recipe) -> Sandbox:
    return Sandbox(assemble(made), device=torch.device("cpu"))


def _zero(model: Classifier) -> None:
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)


def _mask(y: Tensor) -> Tensor:
    return (torch.arange(len(y)) % 4 == 0).float()


@pytest.mark.parametrize(
    ("loss_fn", "expected"),
    [
        (nn.CrossEntropyLoss(), math.log(5)),
        (nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0)), math.log(5)),
        (nn.CrossEntropyLoss(label_smoothing=0.2), math.log(5)),
        (nn.CrossEntropyLoss(ignore_index=1), math.log(5)),
        (nn.CrossEntropyLoss(reduction="sum"), math.log(5)),
        (lambda z, y: F.nll_loss(z.log_softmax(1), y), math.log(5)),
        (nn.MultiMarginLoss(), 0.8),
        (lambda z, y: F.binary_cross_entropy(z.sigmoid(), F.one_hot(y, 5).float()), math.log(2)),
        (
            lambda z, y: F.binary_cross_entropy_with_logits(
                z, F.one_hot(y, 5).float(), pos_weight=torch.full((5,), 4.0)
            ),
            math.log(2) * (0.2 * 4 + 0.8),
        ),
        (lambda z, y: F.kl_div(z.log_softmax(1), F.one_hot(y, 5).float(), reduction="batchmean"), math.log(5)),
        (lambda z, y: F.kl_div(z.log_softmax(1), F.one_hot(y, 5).float(), reduction="sum"), math.log(5)),
        (lambda z, y: F.l1_loss(z, F.one_hot(y, 5).float()), 0.2),
        (lambda z, y: F.mse_loss(z, F.one_hot(y, 5).float() * 3), 1.8),
        (lambda z, y: F.huber_loss(z, F.one_hot(y, 5).float() * 3, delta=1.0), 0.5),
    ],
)
def test_with_a_head_of_zeros_the_loss_is_the_one_expected(loss_fn: Loss, expected: float) -> None:
    start = initial_loss(_sandbox(recipe(_zero, loss_fn)))
    level = start.levels[0]
    assert level.expected == pytest.approx(expected, rel=1e-4)
    assert level.loss == pytest.approx(level.expected, rel=1e-4)


def test_every_factor_between_call_and_loss_is_seen() -> None:
    start = initial_loss(_sandbox(recipe(loss_fn=lambda z, y: F.cross_entropy(z, y) / 4)))
    assert start.levels[0].factors == pytest.approx((0.25,) * 4, rel=1e-5)
    start = initial_loss(_sandbox(recipe(loss_fn=nn.CrossEntropyLoss(reduction="sum"))))
    assert start.levels[0].factors == pytest.approx((64.0,) * 4, rel=1e-5)


def test_a_mask_of_zeros_and_ones_is_seen() -> None:
    def masked(z: Tensor, y: Tensor) -> Tensor:
        return (F.cross_entropy(z, y, reduction="none") * _mask(y)).mean()

    level = initial_loss(_sandbox(recipe(loss_fn=masked))).levels[0]
    assert level.masked
    assert level.kept == pytest.approx((0.25,) * 4)
    assert level.factors == pytest.approx((0.25,) * 4, rel=1e-5)


def test_gains_and_tied_weights() -> None:
    def large(model: Classifier) -> None:
        nn.init.constant_(model.head.weight, 0.5)

    layers = {layer.name: layer for layer in initial_loss(_sandbox(recipe(large))).layers}
    assert layers["head"].gain == pytest.approx(0.5 * 8)
    assert layers["body.0"].gain == pytest.approx(3**-0.5, abs=0.05)
    assert not layers["head"].tied


def test_shuffled_parameters_tell_learning_from_leaking() -> None:
    class Leaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(15, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + 20 * x[:, 10:]

    x = torch.randn(256, 10)
    y = torch.randint(0, 5, (256,))
    leaked = torch.cat([x, F.one_hot(y, 5).float()], 1)
    made = Recipe(model=Leaking(), train_loader=DataLoader(TensorDataset(leaked, y), 64), loss_fn=nn.CrossEntropyLoss())
    start = initial_loss(_sandbox(made))
    assert start.levels[0].loss < 0.1
    assert start.shuffled is not None
    assert start.shuffled < 0.1
    assert initial_loss(_sandbox(recipe())).shuffled is None


def test_the_maker_of_the_input_is_named_through_views_and_clamps() -> None:
    def loss_fn(z: Tensor, y: Tensor) -> Tensor:
        p = z.softmax(1).clamp(1e-6, 1 - 1e-6)
        return F.cross_entropy(p.unsqueeze(2), y[:, None])

    item = loss_inputs(_sandbox(recipe(loss_fn=loss_fn))).inputs[0]
    assert item.made_by is not None
    assert (item.made_by.name, item.made_by.dim) == ("softmax", 1)
    assert item.made_by.place.source == "p = z.softmax(1).clamp(1e-6, 1 - 1e-6)"
    assert item.row_sums_off < 1e-4
    plain = loss_inputs(_sandbox(recipe())).inputs[0]
    assert plain.made_by is None
    assert plain.row_sums_off > 0.1


def test_scores_are_followed_back_to_their_positions() -> None:
    right = target_pairing(_sandbox(tagging(nn.CrossEntropyLoss()))).layouts[0]
    assert (right.mixed, right.touched) == (0, 1)
    viewed = target_pairing(_sandbox(tagging(lambda z, y: F.cross_entropy(z.reshape(-1, 5), y.flatten())))).layouts[0]
    assert (viewed.mixed, viewed.touched) == (320, 5)
    swapped = target_pairing(_sandbox(tagging(lambda z, y: F.cross_entropy(z.transpose(1, 2), y)))).layouts[0]
    assert (swapped.mixed, swapped.swapped) == (320, 320)


def test_the_best_bias_and_its_layer() -> None:
    labels = label_baseline(_sandbox(recipe()))
    y = torch.cat([batch[1] for batch in recipe().train_loader])
    shares = torch.bincount(y).double() / len(y)
    assert labels.labels == 640
    assert labels.head_name == "head"
    assert labels.bias == pytest.approx(tuple(shares.log().tolist()), abs=1e-6)
    assert labels.constant == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-6)


def test_names_as_code() -> None:
    assert spelled("blocks.0.head") == "model.blocks[0].head"
    assert spelled("2") == "model[2]"


def test_cost() -> None:
    sandbox = _sandbox(recipe())
    for probe in (initial_loss, loss_inputs, target_pairing, label_baseline):
        probe(sandbox)
    assert sandbox.meter.train_steps == pytest.approx(7 / 3)


@pytest.mark.parametrize(("rate", "rises"), [(0.2 / 64, False), (1.0, True)])
def test_a_sum_is_tried_with_the_users_optimizer(rate: float, rises: bool) -> None:
    made = recipe(loss_fn=nn.CrossEntropyLoss(reduction="sum"))
    made = dataclasses.replace(made, optimizer=torch.optim.SGD(made.model.parameters(), lr=rate))
    trial = initial_loss(_sandbox(made)).summed
    assert trial is not None
    assert (trial.after > 1.2 * trial.before) == rises
    assert trial.after_mean < trial.before
