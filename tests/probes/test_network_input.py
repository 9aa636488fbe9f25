"""What enters the first layers, followed through everything that is done to a batch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nncheck
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.loss_targets import LossTargets, loss_targets
from nncheck.probes.network_input import NetworkInput, network_input
from nncheck.survey.pictures import picture
from nncheck.target.assemble import assemble


def box(model: nn.Module, x: Tensor, y: Tensor, loss_fn: Any = None, **parts: Any) -> Sandbox:
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    recipe = nncheck.Recipe(model=model, train_loader=loader, loss_fn=loss_fn or nn.CrossEntropyLoss(), **parts)
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def seen(model: nn.Module, x: Tensor, y: Tensor | None = None, **parts: Any) -> NetworkInput:
    return network_input(box(model, x, torch.zeros(len(x)).long() if y is None else y, **parts))


def asked(x: Tensor, y: Tensor, loss_fn: Any, outputs: int = 3) -> LossTargets:
    return loss_targets(box(nn.Linear(x.size(1), outputs), x, y, loss_fn))


class Scaled(nn.Module):
    """Takes 8-bit images, and scales them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float().div(255) - 0.5) / 0.25
        return self.head(F.max_pool2d(self.norm(F.relu(self.conv(x))), 2).mean((2, 3)))


def test_a_models_own_scaling_is_seen() -> None:
    (one,) = seen(Scaled(), torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8)).entries
    assert (one.kind, one.layer, one.roots) == ("conv", "conv", ("[0]",))
    assert (one.low, one.high) == (-2.0, 2.0)
    assert one.normalised
    assert one.changed
    assert one.picture is not None
    assert len(one.features) == 3


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (nn.Linear(4, 3), "linear"),
        (nn.BatchNorm1d(4), "norm"),
        (nn.LayerNorm(4), "norm"),
        (nn.Sequential(nn.Identity(), nn.Linear(4, 3)), "linear"),
    ],
)
def test_kinds(first: nn.Module, kind: str) -> None:
    model = nn.Sequential(first, nn.LazyLinear(3))
    model(torch.zeros(2, 4))
    assert seen(model, torch.randn(32, 4)).entries[0].kind == kind


def test_recurrent_layers_tokens_and_bare_parameters() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 6, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = x.new_zeros(1, len(x), 6)
            return self.head(self.rnn(x, (state, torch.zeros_like(state)))[0][:, -1])

    (one,) = seen(Recurrent(), torch.randn(32, 5, 4) * 3).entries
    assert one.kind == "recurrent"
    assert 2.5 < one.std < 3.5

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(30, 8)
            self.weight = nn.Parameter(torch.randn(8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.embed(x).mean(1) @ self.weight

    ids = torch.tensor([[5, 1, 1, 7, 1, 0, 0, 0]] * 32)
    (two,) = seen(Bag(), ids).entries
    assert (two.kind, two.width, two.frequent, two.ids) == ("embedding", 30, 1, 3)
    assert two.frequent_share == pytest.approx(3 / 5)
    assert two.same


def test_a_pretrained_norm_knows_its_input() -> None:
    model = Scaled()
    with torch.no_grad():
        for _ in range(60):
            model(torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8))
    right = seen(model, torch.randint(256, (64, 3, 8, 8), dtype=torch.uint8))
    assert right.trained
    assert 0.7 < right.entries[0].ratio < 1.4
    wrong = seen(model, torch.rand(64, 3, 8, 8))
    assert wrong.entries[0].ratio < 0.1


def test_pictures() -> None:
    stored = F.avg_pool2d(torch.rand(64, 3, 20, 20), 5, stride=1).permute(0, 2, 3, 1) + torch.tensor([0.0, 0.5, 1.0])
    right = picture(stored.permute(0, 3, 1, 2))
    wrong = picture(stored.reshape(64, 3, 16, 16))
    assert right is not None
    assert wrong is not None
    assert right.across - 6 * right.across_error > 0
    assert wrong.across + 6 * wrong.across_error < -0.1
    assert wrong.down + 6 * wrong.down_error < -0.1
    small = torch.rand(4, 1, 8, 8)
    nearest, smooth = (picture(F.interpolate(small, scale_factor=16, mode=mode)) for mode in ("nearest", "bilinear"))
    assert nearest is not None
    assert smooth is not None
    assert (nearest.block, smooth.block) == (16, 1)
    assert smooth.straight > 0.85
    assert picture(torch.rand(4, 5, 8, 8)) is None
    assert picture(torch.full((4, 3, 8, 8), float("nan"))) is None


def test_loss_targets() -> None:
    x = torch.randn(32, 4)
    y = torch.arange(32) % 3
    (call,) = asked(x, y, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=1)).calls
    assert (call.roots, call.own, call.classes, call.ignore_index, call.weights) == (
        ("[1]",),
        "[1]",
        3,
        1,
        (1.0, 2.0, 3.0),
    )
    assert call.distinct == (0.0, 2.0)
    assert not call.several
    soft = F.one_hot(y, 3).float() * 2
    (call,) = asked(x, soft, nn.CrossEntropyLoss()).calls
    assert (call.soft, call.to_one, call.low_sum, call.high_sum) == (True, 0.0, 2.0, 2.0)
    (call,) = asked(x, torch.randn(32, 1), lambda o, t: F.mse_loss(o, t.long().float()), outputs=1).calls
    assert call.whole == 1
    assert call.root_whole == 0
    assert call.own == ""


def test_targets_a_step_makes_up_have_no_root() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        output = model(batch[0])
        return F.binary_cross_entropy_with_logits(output, torch.ones_like(output))

    found = loss_targets(box(nn.Linear(4, 1), torch.randn(32, 4), torch.zeros(32), training_step=step))
    assert found.calls[0].roots == ()


def test_the_blank_among_ctc_labels() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        scores = model(batch[0]).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(batch[0]),), 4)
        return F.ctc_loss(scores, batch[1], torch.full((len(batch[0]),), 12), lengths)

    labels = torch.tensor([[1, 0, 2, 3, 0, 0]] * 32)
    found = loss_targets(box(nn.Linear(4, 5), torch.randn(32, 12, 4), labels, training_step=step))
    assert (found.ctc[0].blanks, found.ctc[0].labels) == (16, 64)
