"""gradient-check's measurement: wrong backwards as people write them, and gradients that are meant to differ."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.checks.wiring.gradient_check import gradient_check
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.gradient_errors import GradientErrors, gradient_errors
from nncheck.target.assemble import assemble
from nncheck.verdict import Status

N, H, C = 8, 12, 3


def recipe(model: nn.Module, *, batch: int = 64, **parts: Any) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(128, N, generator=generator), torch.randint(C, (128,), generator=generator)
    parts.setdefault("loss_fn", nn.CrossEntropyLoss())
    parts.setdefault("optimizer", torch.optim.Adam(model.parameters(), lr=1e-3))
    return Recipe(model=model, train_loader=DataLoader(TensorDataset(x, y), batch_size=batch), **parts)


def measure(of: Recipe) -> tuple[GradientErrors, Sandbox]:
    sandbox = Sandbox(assemble(of), device=torch.device("cpu"))
    return gradient_errors(sandbox), sandbox


class Net(nn.Module):
    """Linear, something in between, linear."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(N, H), nn.Linear(H, C)
        self.weight, self.bias = nn.Parameter(torch.randn(H, H) / 3), nn.Parameter(torch.zeros(H))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self, self.first(x)))


class Function(torch.autograd.Function):
    pass


class Square(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * g


class MissingFactor(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return x * g


class WrongSign(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return -2 * x * g


class ForgetsGradOutput(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x


class MissingMask(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g


class WrongTensorSaved(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # tanh's derivative is in terms of its result
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return (1 - y * y) * g


class Affine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x, g.sum(0)


class WrongReduction(Affine):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return g @ weight, g.T @ x, g.mean(0)


class WrongWeight(Affine):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return g @ weight, x.T @ g, g.sum(0)


class NewStyle(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return x.sin() * g


class WrongBias(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        return x + bias  # gives back x while the bias is zero

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g, g.mean(0)


class WrongGate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(x, gate)
        return x * gate  # does not move with x while the gate is zero

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        _, gate = ctx.saved_tensors
        return g * gate, g.sum(0)


bound = MissingMask.apply

WRONG: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "MissingFactor": lambda m, h: MissingFactor.apply(h),
    "WrongSign": lambda m, h: WrongSign.apply(h),
    "ForgetsGradOutput": lambda m, h: ForgetsGradOutput.apply(h),
    "MissingMask": lambda m, h: bound(h),
    "WrongTensorSaved": lambda m, h: WrongTensorSaved.apply(h),
    "WrongReduction": lambda m, h: WrongReduction.apply(h, m.weight, m.bias),
    "WrongWeight": lambda m, h: WrongWeight.apply(h, m.weight, m.bias),
    "WrongBias": lambda m, h: WrongBias.apply(torch.tanh(h), m.bias),
    "WrongGate": lambda m, h: h + WrongGate.apply(torch.tanh(h), m.bias),
    "NewStyle": lambda m, h: NewStyle.apply(h),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_backward_is_named(name: str) -> None:
    errors, _ = measure(recipe(Net(WRONG[name])))
    verdict = gradient_check(errors)
    assert verdict.status is Status.FAIL, verdict
    assert name in verdict.summary
    assert verdict.places[0].name == f"{name}.backward"
    assert (verdict.places[0].source or "").startswith("def backward")
    assert verdict.places[0].file is not None
    assert verdict.places[0].file.endswith("test_gradient_errors.py")


def test_the_parameter_is_named_and_the_factor_told() -> None:
    errors, _ = measure(recipe(Net(WRONG["WrongReduction"])))
    (function,) = errors.functions
    wrong = [a for a in function.arguments if a.error > 1e-3]
    assert [a.argument for a in wrong] == ["argument 3 (bias)"]
    assert wrong[0].factor == pytest.approx(errors.samples)
    assert max(a.error for a in function.arguments if a not in wrong) < 1e-7


def test_a_wrong_sign_is_called_one() -> None:
    verdict = gradient_check(measure(recipe(Net(WRONG["WrongSign"])))[0])
    assert "sign" in verdict.causes[0]


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return -g


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g


class ClampedSTE(MissingMask):
    """A straight-through estimator: the gradient passes where the value is clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)


class Normalised(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, h: torch.relu(m.norm(h)))
        self.norm = nn.BatchNorm1d(H)


class Hooked(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, h: torch.relu(h))
        self.first.weight.register_hook(lambda g: 0.1 * g)


class Casting(Net):
    """Constants and casts to float32 on the way."""

    def __init__(self) -> None:
        super().__init__(lambda m, h: (h.float() * m.scale).to(torch.float32) + torch.zeros(H, dtype=torch.float32))
        self.scale = torch.full((H,), 0.7)


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "right function": lambda: Net(lambda m, h: Square.apply(h)),
    "right affine": lambda: Net(lambda m, h: Affine.apply(h, m.weight, m.bias)),
    "relu": lambda: Net(lambda m, h: torch.relu(h)),
    "dropout": lambda: Net(lambda m, h: F.dropout(h, 0.5)),
    "stochastic depth": lambda: Net(lambda m, h: h + torch.tanh(h) if torch.rand(()) < 0.5 else h),
    "batchnorm": Normalised,
    "casts": Casting,
    "checkpoint": lambda: Net(lambda m, h: checkpoint(torch.tanh, h, use_reentrant=False)),
    "reentrant checkpoint": lambda: Net(lambda m, h: checkpoint(torch.tanh, h, use_reentrant=True)),
    "reversal": lambda: Net(lambda m, h: Reverse.apply(torch.tanh(h))),
    "sign": lambda: Net(lambda m, h: Sign.apply(h)),
    "clamp that lets the gradient pass": lambda: Net(lambda m, h: ClampedSTE.apply(3 * h)),
    "rounding by detach": lambda: Net(lambda m, h: h + (h.round() - h).detach()),
    "stop-gradient": lambda: Net(lambda m, h: h * torch.sigmoid(h).detach()),
    "no_grad branch": lambda: Net(lambda m, h: h * torch.no_grad()(torch.sigmoid)(h)),
    "quantised": lambda: Net(lambda m, h: torch.fake_quantize_per_tensor_affine(h, 0.5, 0, -8, 7)),
    "gradient hook": Hooked,
    "kink right here": lambda: Net(lambda m, h: h + torch.relu(m.bias)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_or_meant_passes(name: str) -> None:
    errors, _ = measure(recipe(RIGHT[name]()))
    verdict = gradient_check(errors)
    assert verdict.status is Status.PASS, verdict
    assert errors.precision == "float64"


SMOOTH = [
    "right function",
    "right affine",
    "dropout",
    "stochastic depth",
    "batchnorm",
    "casts",
    "checkpoint",
    "reentrant checkpoint",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_sound_gradients_are_great(name: str) -> None:
    errors, _ = measure(recipe(RIGHT[name]()))
    assert len(errors.moments) == 2
    assert all(m.error < 1e-7 for m in errors.moments), errors


def test_a_gradient_lost_unseen_is_a_warning_with_the_parameter() -> None:
    operator = torch.library.custom_op(
        "nncheck_tests::cube", lambda x: x**3, mutates_args=(), schema="(Tensor x) -> Tensor"
    )
    operator.register_autograd(lambda ctx, g: 0.5 * g, setup_context=lambda ctx, inputs, output: None)
    verdict = gradient_check(measure(recipe(Net(lambda m, h: operator(h))))[0])
    assert verdict.status is Status.WARN
    assert verdict.places
    assert verdict.places[0].name.startswith("first.")


def test_regularisation_is_part_of_the_loss() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y) + 0.1 * sum(p.square().sum() for p in model.parameters())

    errors, _ = measure(recipe(Net(lambda m, h: torch.tanh(h)), loss_fn=None, training_step=step))
    assert errors.moments[0].tensors == 6  # weight and bias have a gradient only through the penalty
    assert all(m.error < 1e-7 for m in errors.moments)


def test_the_classes_and_the_model_are_as_before() -> None:
    model = Net(lambda m, h: Square.apply(h))
    forward, values = vars(Square)["forward"], [p.detach().clone() for p in model.parameters()]
    _, sandbox = measure(recipe(model))
    assert vars(Square)["forward"] is forward
    for p, value in zip(model.parameters(), values, strict=True):
        assert p.dtype is torch.float32
        assert torch.equal(p, value)
        assert p.grad is None
    assert torch.get_default_dtype() is torch.float32
    assert sandbox.meter.train_steps < 2.5


def test_passes_do_not_grow_with_the_number_of_tensors() -> None:
    def deep(layers: int) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(N, 6), *(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(layers)), nn.Linear(6, C)
        )

    costs = [measure(recipe(deep(layers)))[1].meter.train_steps for layers in (1, 10, 100)]
    assert costs[0] == costs[1] == costs[2]


@pytest.mark.parametrize("tied", [False, True])
def test_the_padding_row_of_an_embedding_has_no_gradient_on_purpose(tied: bool) -> None:
    """It is read as any other, where padding is not masked, and kept as it is."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(11, 16, padding_idx=1)
            self.out = nn.Linear(16, 11)
            if tied:
                self.out.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.words(x).mean(1))

    torch.manual_seed(0)
    model = Mean()
    model.words.weight.data[1] = 0.5
    data = TensorDataset(torch.randint(0, 11, (64, 6)), torch.randint(0, 11, (64,)))
    found, _ = measure(Recipe(model=model, train_loader=DataLoader(data, 16), loss_fn=nn.CrossEntropyLoss()))
    assert gradient_check(found).status is Status.PASS
