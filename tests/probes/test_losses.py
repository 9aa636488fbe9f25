"""The loss that was called: its value by element, floor, best constant and plateaus, against plain optimisation."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.losses.call import LossCall, floor, loss_call, per_element
from nncheck.losses.levels import best_constant, plateaus
from nncheck.observe.watch import Call, Watch

GENERATOR = torch.Generator().manual_seed(0)
N, C = 64, 5
X = torch.randn(N, C, generator=GENERATOR)
Y = torch.randint(1, C, (N,), generator=GENERATOR)
KEPT = torch.where(torch.arange(N) % 3 == 0, -100, Y)
WEIGHT = torch.rand(C, generator=GENERATOR) + 0.5
SOFT = torch.randn(N, C, generator=GENERATOR).softmax(1)
MANY = (torch.rand(N, C, generator=GENERATOR) < 0.2).float()
REAL = SOFT * 9 + 3
PIXELS = torch.randint(0, C, (4, 3, 3), generator=GENERATOR)

LOSSES: dict[str, Callable[[], Tensor]] = {
    "plain": lambda: F.cross_entropy(X, Y),
    "weights": lambda: F.cross_entropy(X, Y, WEIGHT),
    "smoothing": lambda: F.cross_entropy(X, Y, label_smoothing=0.1),
    "weights and smoothing": lambda: F.cross_entropy(X, Y, WEIGHT, label_smoothing=0.1),
    "ignored": lambda: F.cross_entropy(X, KEPT, WEIGHT),
    "soft": lambda: F.cross_entropy(X, SOFT),
    "soft, weights and smoothing": lambda: F.cross_entropy(X, SOFT, WEIGHT, label_smoothing=0.2),
    "pixels": lambda: F.cross_entropy(torch.randn(4, C, 3, 3, generator=GENERATOR), PIXELS),
    "nll": lambda: F.nll_loss(X.log_softmax(1), Y, WEIGHT),
    "bce": lambda: F.binary_cross_entropy(X.sigmoid(), MANY),
    "bce with logits": lambda: F.binary_cross_entropy_with_logits(X, MANY, pos_weight=WEIGHT * 3),
    "bce, soft": lambda: F.binary_cross_entropy_with_logits(X, SOFT),
    "mse": lambda: F.mse_loss(X, REAL),
    "l1": lambda: F.l1_loss(X, REAL),
    "huber": lambda: F.huber_loss(X, REAL, delta=0.1),
    "smooth l1": lambda: F.smooth_l1_loss(X, REAL, beta=0.5),
    "poisson": lambda: F.poisson_nll_loss(X, MANY * 3),
}


def seen(loss: Callable[[], Tensor]) -> LossCall:
    found: list[LossCall] = []

    def handler(call: Call) -> None:
        known = loss_call(call)
        if known is not None:
            found.append(known)

    with Watch(nn.Identity(), calls=(handler,)):
        loss()
    return found[-1]


def _optimised(call: LossCall, free: bool) -> float:
    """The lowest loss over constant inputs, or over all inputs, by L-BFGS."""
    shape = [1] * call.input.ndim
    shape[1] = C
    start = torch.zeros(call.input.shape if free else shape)
    if call.kind == "l1":
        start = call.target.median(0, keepdim=True).values.clone() if not free else call.target.clone()
    z = start.requires_grad_()
    optimizer = torch.optim.LBFGS([z], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = z.log_softmax(1) if call.kind == "nll" else z.sigmoid() if call.kind == "bce" else z
        loss = call.again(value.expand_as(call.input))
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return float(closure().detach())


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_over_elements_is_the_loss(name: str) -> None:
    call = seen(LOSSES[name])
    assert per_element(call) == pytest.approx(float(call.value), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_no_constant_is_better(name: str) -> None:
    call = seen(LOSSES[name])
    found = best_constant(call)
    assert found is not None
    assert found[1] == pytest.approx(_optimised(call, free=False), abs=1e-3)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("nll", "bce", "l1")])
def test_no_input_is_below_the_floor(name: str) -> None:
    call = seen(LOSSES[name])
    found = floor(call)
    assert found is not None
    assert found[0] == pytest.approx(_optimised(call, free=True), abs=0.02)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_floors_are_in_the_calls_own_reduction(reduction: str) -> None:
    call = seen(lambda: F.cross_entropy(X, Y, label_smoothing=0.1, reduction=reduction))
    found = floor(call)
    assert found is not None
    assert found[0] == pytest.approx(0.3897 * (N if reduction == "sum" else 1), rel=1e-3)


def test_what_has_no_floor() -> None:
    assert floor(seen(lambda: F.nll_loss(X, Y))) is None
    assert floor(seen(lambda: F.binary_cross_entropy_with_logits(X, MANY * 2 - 1))) is None
    spread = torch.ones(N, C, requires_grad=True)
    assert floor(seen(lambda: F.gaussian_nll_loss(X, REAL, spread))) is None


@pytest.mark.parametrize(("classes", "value"), [(2, 0.3133), (3, 0.5514), (10, 1.4612), (100, 3.6222), (1000, 5.9095)])
def test_the_plateau_of_softmax_twice(classes: int, value: float) -> None:
    call = seen(lambda: F.cross_entropy(torch.zeros(4, classes), torch.zeros(4, dtype=torch.long)))
    levels = {level.check: level.value for level in plateaus(call)}
    assert levels["double-softmax"] == pytest.approx(value, abs=1e-4)
    assert levels["loss-at-init"] == pytest.approx(math.log(classes), abs=1e-4)


def test_the_plateau_of_sigmoid_twice() -> None:
    target = torch.cat([torch.ones(10), torch.zeros(90)])
    call = seen(lambda: F.binary_cross_entropy_with_logits(torch.zeros(100), target))
    levels = {level.check: level.value for level in plateaus(call)}
    assert levels["double-softmax"] == pytest.approx(0.655, abs=1e-3)
    assert levels["input-baseline"] == pytest.approx(0.3251, abs=1e-4)


def test_modules_are_seen_as_their_functions() -> None:
    call = seen(lambda: nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=2)(X, Y))
    assert call.kind == "cross-entropy"
    assert call.options["ignore_index"] == 2
    assert per_element(call) == pytest.approx(float(call.value), rel=1e-5)
