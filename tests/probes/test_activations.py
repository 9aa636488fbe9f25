"""The activations probe on networks with hand-set weights: wherever and however the functions are called."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.streams import spread_and_level
from nncheck.probes.activations import Activation, Activations, activations
from nncheck.target.assemble import assemble


def _sandbox(model: nn.Module, x: Tensor, y: Tensor, *, loss: object = None, batch: int = 64) -> Sandbox:
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=batch),
        loss_fn=loss or nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def _seen(model: nn.Module, x: Tensor | None = None, y: Tensor | None = None, **options: object) -> Activations:
    torch.manual_seed(1)
    x = torch.randn(128, 8) if x is None else x
    y = torch.randint(0, 4, (len(x),)) if y is None else y
    return activations(_sandbox(model, x, y, **options))


class Hidden(nn.Module):
    """Two layers with a function between; eight hidden units that copy the inputs, shifted."""

    def __init__(self, function: Callable[[Tensor], Tensor], shift: Tensor | float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)
        self.function = function
        with torch.no_grad():
            self.first.weight.copy_(scale * torch.eye(8))
            self.first.bias.copy_(torch.zeros(8) + shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.first(x)))


RELUS = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "x.relu()": lambda x: x.relu(),
    "x.relu_()": lambda x: x.relu_(),
    "inplace": lambda x: F.relu(x, inplace=True),
    "module": nn.ReLU(),
    "clamp": lambda x: x.clamp(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clip": lambda x: x.clip(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "relu6": F.relu6,
}


@pytest.mark.parametrize("name", RELUS)
def test_units_are_counted_however_a_relu_is_spelt(name: str) -> None:
    shift = torch.tensor([-50.0, -50.0, -50.0, 5.5, 0.0, 0.0, 0.0, 0.0])  # three silent, one always on
    (seen,) = _seen(Hidden(RELUS[name], shift)).activations
    assert (seen.family, seen.role, seen.units, seen.layer) == ("rectifier", "hidden", 8, "first")
    assert seen.dead == pytest.approx(3 / 8)
    assert seen.always_on == pytest.approx(1 / 8)
    assert sum(seen.counts) == 8


def _slope(function: Callable[[Tensor], Tensor], at: float) -> float:
    """The derivative by autograd, over the largest on a fine grid."""
    grid = torch.cat([torch.linspace(-12, 12, 48_001), torch.tensor([at])]).double().requires_grad_()
    (slopes,) = torch.autograd.grad(function(grid).sum(), grid)
    return float(slopes[-1].abs() / slopes.abs().max())


SMOOTH = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softsign": F.softsign, "gelu": F.gelu, "silu": F.silu, "mish": F.mish,
    "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "softplus": F.softplus, "elu": F.elu, "celu": F.celu,
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("at", [-3.5, -1.0, 0.4, 2.0, 3.5])
def test_slopes_agree_with_autograd(name: str, at: float) -> None:
    (seen,) = _seen(Hidden(SMOOTH[name], at, scale=0.0)).activations
    assert seen.kind == name
    # hardswish is steepest, 1.5, just inside 3; hardsigmoid and the like have two slopes only.
    assert seen.slope == pytest.approx(_slope(SMOOTH[name], at), abs=2e-3)


def test_in_place_smooth_activations_are_told_from_their_result_or_not_at_all() -> None:
    (tanh,) = _seen(Hidden(lambda x: x.tanh_(), 2.0, scale=0.0)).activations
    assert tanh.slope == pytest.approx(1 - math.tanh(2.0) ** 2, abs=1e-4)
    (silu,) = _seen(Hidden(lambda x: F.silu(x, inplace=True), 2.0, scale=0.0)).activations
    assert math.isnan(silu.slope)


def _roles(model: nn.Module, **options: object) -> dict[str, str]:
    return {a.kind: a.role for a in _seen(model, **options).activations}


def test_roles() -> None:
    assert _roles(Hidden(lambda x: F.relu(x) * torch.sigmoid(x))) == {"relu": "gate", "sigmoid": "gate"}
    assert _roles(Hidden(lambda x: F.relu(x).square())) == {"relu": "gate"}
    assert _roles(Hidden(lambda x: F.dropout(F.relu(x), 0.5) * 2.0)) == {"relu": "hidden"}
    assert _roles(Hidden(lambda x: (1 - torch.sigmoid(x)) * x)) == {"sigmoid": "gate"}
    assert _roles(Hidden(lambda x: x + (F.relu(x) - x).detach())) == {"relu": "aside"}
    squeezed = Hidden(lambda x: (h := F.relu(x)) * torch.sigmoid(h.mean(1, keepdim=True)))
    assert _roles(squeezed) == {"relu": "hidden", "sigmoid": "gate"}
    assert _roles(nn.Sequential(nn.Linear(8, 4), nn.ReLU())) == {"relu": "output"}


def test_a_loss_that_takes_the_activation_as_it_is() -> None:
    (seen,) = _seen(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Unflatten(1, (2, 2)), nn.Flatten())).activations
    assert seen.feeds == "cross-entropy"


def test_channels_are_the_units_of_a_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4))
    with torch.no_grad():
        model[0].bias[:2] = -100.0
    (seen,) = _seen(model, torch.randn(128, 1, 4, 4)).activations
    assert (seen.units, seen.dead) == (6, pytest.approx(2 / 6))
    assert seen.values == 128 * 16


def test_one_relu_used_twice_is_two_and_a_loop_is_one() -> None:
    shared = nn.ReLU()
    twice = nn.Sequential(nn.Linear(8, 8), shared, nn.Linear(8, 8), shared, nn.Linear(8, 4))
    assert [a.name for a in _seen(twice).activations] == ["1", "1#2"]

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(8, 8)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(5):
                x = torch.tanh(self.cell(x))
            return self.head(x)

    seen = _seen(Loop())
    assert len(seen.activations) == 1
    assert len(seen.scales) == 2


def test_scales_of_hand_set_layers() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[0].bias.fill_(7.0)
        model[1].weight.fill_(0.0)
    x = torch.tensor([[-1.0], [1.0]]).repeat(32, 1)
    first, head = _seen(model, x, torch.zeros(64, dtype=torch.long)).scales
    assert (first.spread, first.level) == (pytest.approx(3.0), pytest.approx(0.0, abs=1e-6))  # its own bias taken off
    assert (first.given_spread, first.output, head.output) == (pytest.approx(1.0), False, True)
    assert (head.zero, head.spread) == (True, 0.0)


def test_a_clamp_on_a_layers_own_score_is_told_from_a_guard() -> None:
    def raw(end: Callable[[Tensor], Tensor]) -> list[bool]:
        class Ends(Hidden):
            def forward(self, x: Tensor) -> Tensor:
                return end(super().forward(x)[:, 0])

        seen = _seen(Ends(torch.tanh), y=torch.ones(128), loss=nn.BCELoss())
        return [a.raw for a in seen.activations if a.kind == "clamp"]

    assert raw(lambda score: score.clamp(0, 1)) == [True]
    assert raw(lambda score: score.sigmoid().clamp(1e-6, 1 - 1e-6)) == [False]
    assert raw(lambda score: (0.5 + score / 100).clamp(0, 1)) == [False]


def test_linear_networks_are_told_from_masked_ones() -> None:
    assert [s for _, *s in _seen(Hidden(lambda x: 0.5 * x.flatten(1))).linear] == [[8, 8], [8, 4]]
    for bend in (F.relu, lambda x: x * (x > 0), lambda x: x.masked_fill(x < 0, 0), torch.sin, lambda x: x * x):
        assert _seen(Hidden(bend)).linear == ()


def test_a_bend_that_is_detached_is_a_bend() -> None:
    assert _seen(Hidden(lambda x: x + (torch.round(4 * x) / 4 - x).detach())).linear == ()
    assert _seen(Hidden(lambda x: x + (x.sign() - x).detach())).linear == ()
    assert len(_seen(Hidden(nn.BatchNorm1d(8))).linear) == 2


def test_a_softmax_between_layers_is_one_only_without_noise_or_temperature() -> None:
    assert len(_seen(Hidden(lambda x: x.softmax(-1))).softmaxes) == 1
    assert _seen(Hidden(lambda x: ((x + torch.randn_like(x)) / 0.5).softmax(-1))).softmaxes == ()


class Look(nn.Module):
    """One attention over six tokens, causal, spelt in several ways with the same weights."""

    def __init__(self, way: str, factor: float | None = 0.25) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(6 * 16, 4)
        self.way, self.factor = way, factor
        nn.init.normal_(self.attention.in_proj_weight, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        allowed = torch.ones(6, 6, dtype=torch.bool).tril()
        if self.way == "module":
            out = self.attention(x, x, x, attn_mask=~allowed, need_weights=False)[0]
            return self.head(out.flatten(1))
        parts = F.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in parts)
        if self.way == "sdpa":
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        elif self.way == "sdpa mask":
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        else:
            scores = torch.einsum("bhqd,bhkd->bhqk", query, key) if self.way == "einsum" else query @ key.mT
            scores = scores if self.factor is None else scores * self.factor
            weights = F.softmax(scores.masked_fill(~allowed, -1e9), dim=-1)
            out = weights @ value
        return self.head(out.transpose(1, 2).flatten(1))


def test_attention_has_one_entropy_however_it_is_spelt() -> None:
    x = torch.randn(64, 6, 16)
    found = {
        way: _seen(Look(way, 8**-0.5), x).attentions[0] for way in ("module", "sdpa", "sdpa mask", "einsum", "by hand")
    }
    entropies = {way: seen.entropy for way, seen in found.items()}
    assert all(e == pytest.approx(entropies["by hand"], rel=1e-4) for e in entropies.values()), entropies
    assert 0 < entropies["by hand"] < 1
    assert all(seen.scaled and (seen.keys, seen.heads) == (6, 2) for seen in found.values())


def test_scores_that_nothing_scales() -> None:
    x = torch.randn(64, 6, 16)
    assert not _seen(Look("by hand", None), x).attentions[0].scaled
    assert not _seen(Look("einsum", None), x).attentions[0].scaled


def test_entropy_of_even_and_one_hot_attention() -> None:
    even, sharp = Look("by hand"), Look("by hand")
    nn.init.zeros_(even.attention.in_proj_weight)
    nn.init.normal_(sharp.attention.in_proj_weight, std=100.0)
    x = torch.randn(64, 6, 16)
    assert _seen(even, x).attentions[0].entropy == pytest.approx(1.0)
    assert _seen(sharp, x).attentions[0].entropy < 0.02


def test_more_samples_only_while_a_layer_is_unsettled() -> None:
    x, y = torch.randn(1024, 8), torch.randint(0, 4, (1024,))
    assert _seen(Hidden(F.relu), x, y).samples == 128
    assert _seen(Hidden(F.relu, -100.0), x, y).samples == 512
    assert _seen(Hidden(F.relu), x[:100], y[:100]).whole


def test_signs_of_training() -> None:
    norm = nn.BatchNorm1d(8)
    model = nn.Sequential(nn.Linear(8, 8), norm, nn.ReLU(), nn.Linear(8, 4))
    assert _seen(model).trained == ""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.fill_(1)  # a forward pass to find out a shape
    assert _seen(model).trained == ""
    norm.num_batches_tracked.fill_(5000)
    assert "5000" in _seen(model).trained
    torch.manual_seed(1)
    x = torch.randn(128, 8)
    knows = nn.Linear(8, 8)
    with torch.no_grad():
        knows.weight.copy_(20 * torch.eye(8))
    assert "loss" in _seen(knows, x, x.argmax(1)).trained


def test_state_is_put_back_and_checkpointing_still_works() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh())
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.block, x, use_reentrant=False))

    model = Checkpointed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sandbox = _sandbox(model, torch.randn(64, 8), torch.randint(0, 4, (64,)))
    seen = activations(sandbox)
    assert [(a.kind, a.role) for a in seen.activations] == [("relu", "hidden"), ("tanh", "hidden")]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    seen = _seen(Hidden(F.relu, -100.0).to(dtype), torch.randn(64, 8, dtype=dtype), loss=_cross_entropy)
    assert seen.activations[0].dead == 1.0


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.float(), target)


def test_cost_grows_with_the_forward_pass_only() -> None:
    for depth in (3, 30):
        layers = [m for _ in range(depth) for m in (nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU())]
        sandbox = _sandbox(nn.Sequential(*layers, nn.Linear(8, 4)), torch.randn(128, 8), torch.randint(0, 4, (128,)))
        assert len(activations(sandbox).activations) == depth
        assert (sandbox.meter.forward, sandbox.meter.backward) == (2.0, 0.0)


def test_layers_are_named_with_the_line_that_calls_them() -> None:
    (seen,) = _seen(Hidden(F.relu)).activations
    assert isinstance(seen, Activation)
    assert seen.place.file is not None
    assert seen.place.file.endswith("test_activations.py")
    assert "self.function" in (seen.place.source or "")


def test_one_position_of_one_sample_has_no_spread() -> None:
    values = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    spread, _ = spread_and_level(values, samples=1)
    assert float(spread) > 0
    alone, level = spread_and_level(values[:, :1], samples=1)
    assert math.isnan(float(alone))
    assert float(level) > 0
    assert float(spread_and_level(values[:, :1], samples=4)[0]) == 0  # the same for all four
