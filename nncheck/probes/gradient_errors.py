"""Gradients against finite differences of the user's whole loss, and of every autograd.Function the user wrote."""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.double import ModuleState, in_double, lift
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.functions import FunctionErrors, check_functions, recording
from nncheck.observe.source import layer_place
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Enough for every branch of a batch-wise model to be taken; the cost is in proportion.
MOST_SAMPLES, LEAST_SAMPLES = 8, 4
# Steps before the second look; fewer where a step takes the whole batch.
TRAINING_STEPS, FEWER_STEPS = 4, 2
# float64: 1e-5 is best (rounding below, curvature and kinks above); the others only after a mismatch. float32 resolves the
# derivative along the gradient alone, to 2e-5 (tanh) or 4e-4 (ReLU) at 1e-2.
STEPS = (1e-5, 1e-6, 1e-4)
STEPS_SINGLE = (1e-2, 1e-3, 1e-1)
GOOD = 1e-5
# Tensors get equal shares of the directional derivative, as far as steps stay within this factor of the median.
EVEN = 10.0
CUTS = {"detach": "detach()", "detach_": "detach_()", "item": "item()", "tolist": "tolist()", "numpy": "numpy()",
        "__float__": "float()", "register_hook": "a gradient hook", "gumbel_softmax": "gumbel_softmax",
        "fake_quantize_per_tensor_affine": "fake quantisation", "fake_quantize_per_channel_affine": "fake quantisation",
        "fused_moving_avg_obs_fake_quant": "fake quantisation"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One comparison over all parameters at once.

    when: "at init" or "after 4 steps". loss: its value. tensors: parameters with a gradient. errors: relative error by step width.
    bend: relative difference of the slopes to both sides at the smallest step: near 0 unless there is a kink right here.
    steady: whether the loss came out the same twice (asked only after a mismatch). parameter: the one the mismatch is in.
    """

    when: str
    loss: float
    tensors: int
    errors: tuple[tuple[float, float], ...]
    bend: float = 0.0
    steady: bool = True
    parameter: Place | None = None

    @property
    def error(self) -> float:
        """The smallest error over step widths."""
        return min((e for _, e in self.errors), default=math.nan)


@dataclass(frozen=True, kw_only=True)
class GradientErrors:
    """What finite differences say of the gradients.

    samples: of the batch, used here. precision: "float64", or "float32" where the set-up does not run in float64.
    cuts: places where a value leaves the graph on purpose or a gradient is changed (detach, no_grad, hooks, fake quantisation).
    functions: the user's own autograd.Functions, the worst call of each.
    """

    samples: int
    precision: str
    moments: tuple[Moment, ...]
    cuts: tuple[Place, ...]
    functions: tuple[FunctionErrors, ...]


@probe
def gradient_errors(sandbox: Sandbox) -> GradientErrors:
    """One backward and two forwards on a few samples in float64, at init and after a few steps; more only after a mismatch."""
    batch = _few(sandbox)
    precision = "float64"
    try:
        first = _measure(sandbox, batch, "at init", steps=0, single=False)
    except TargetError as error:
        precision = "float32"
        try:
            first = _measure(sandbox, batch, "at init", steps=0, single=True)
        except TargetError:
            raise CannotMeasure(
                f"the loss does not run on {batches.size(batch)} samples in float64: {error.message}"
            ) from error
    found = [first]
    with suppress(TargetError, CannotMeasure):
        steps = TRAINING_STEPS if batches.size(batch) < sandbox.feed.batch_size else FEWER_STEPS
        when = f"after {steps} steps"
        found.append(_measure(sandbox, batch, when, steps=steps, single=precision == "float32"))
    functions: dict[str, FunctionErrors] = {}
    for each in found:
        for function in each.functions:
            known = functions.get(function.name)
            if known is None or _worst(function) > _worst(known):
                functions[function.name] = function
    return GradientErrors(
        samples=batches.size(batch),
        precision=precision,
        moments=tuple(each.moment for each in found),
        cuts=tuple(dict.fromkeys(c for each in found for c in each.cuts))[:20],
        functions=tuple(functions.values()),
    )


def _worst(function: FunctionErrors) -> float:
    return max((a.error for a in function.arguments if not math.isnan(a.error)), default=-1.0)


@dataclass(kw_only=True)
class _Found:
    moment: Moment
    cuts: tuple[Place, ...]
    functions: tuple[FunctionErrors, ...]


def _few(sandbox: Sandbox) -> Any:
    """Some samples of the first batch, or all of it if the set-up takes no fewer."""
    batch = sandbox.feed.first
    size = batches.size(batch)
    count = min(size, max(LEAST_SAMPLES, min(MOST_SAMPLES, size // 8)))
    if count == size:
        return batch
    part = batches.take(batch, torch.arange(count))
    try:
        with sandbox.trial():
            sandbox.forward(part)
    except TargetError:
        return batch
    return part


def _measure(sandbox: Sandbox, batch: Any, when: str, *, steps: int, single: bool) -> _Found:
    with sandbox.trial():
        if steps:
            _train(sandbox, batch, steps)
            _forget(sandbox)
        with nullcontext() if single else in_double(sandbox):
            return _compare(sandbox, batch if single else batches.map_tensors(lift, batch), when, single=single)


def _train(sandbox: Sandbox, batch: Any, steps: int) -> None:
    def closure() -> Any:  # a tensor; torch's stub of `step` wants a float
        sandbox.optimizer.zero_grad()
        loss = sandbox.forward(batch).loss
        sandbox.backward(loss, batch)
        return loss.detach()

    for _ in range(steps):
        try:
            sandbox.optimizer.step(closure)
        except (TargetError, CannotMeasure, OutOfTime):
            raise
        except Exception as error:
            raise CannotMeasure(f"the optimizer's step failed: {type(error).__name__}: {error}") from error


def _forget(sandbox: Sandbox) -> None:
    """Drop gradients and optimizer state: a copy in float64 follows, which needs the room. The trial puts the user's back."""
    for parameter in (*sandbox.model.parameters(), *(p for g in sandbox.optimizer.param_groups for p in g["params"])):
        parameter.grad = None
    state = getattr(sandbox.optimizer, "state", None)
    if isinstance(state, dict):
        state.clear()


class _Line:
    """The loss along a direction in the space of all parameters, dropout and the like frozen by the seed."""

    def __init__(self, sandbox: Sandbox, batch: Any) -> None:
        self._sandbox, self._batch = sandbox, batch
        named = dict(sandbox.model.named_parameters())
        known = {id(p) for p in named.values()}
        extra = [p for g in sandbox.optimizer.param_groups for p in g["params"] if id(p) not in known]
        parameters = [*named.items(), *((f"optimizer parameter {i}", p) for i, p in enumerate(extra))]
        self.named = [(n, p) for n, p in parameters if p.requires_grad and p.is_floating_point()]
        self._state = ModuleState(sandbox)
        self.names: list[str] = []
        self.tensors: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def loss(self, *handlers: Any) -> Tensor:
        """The loss, from the same state and seed every time."""
        self._state.restore()
        seed_everything(self._sandbox.seed)
        return self._sandbox.forward(self._batch, calls=handlers).loss

    def differentiate(self, *handlers: Any) -> float:
        """The loss and its gradient, kept for the parameters it reaches."""
        loss = self.loss(*handlers)
        if not loss.requires_grad:
            raise CannotMeasure("the loss has no gradient")
        given = self._gradient(loss)
        reached = [(n, p, g) for (n, p), g in zip(self.named, given, strict=True) if g is not None and not g.is_sparse]
        self.names = [n for n, _, _ in reached]
        self.tensors = [p.data for _, p, _ in reached]
        self.gradients = [g.detach() for _, _, g in reached]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CannotMeasure(f"the loss is {value}")
        if not self.tensors:
            raise CannotMeasure("no parameter has a gradient")
        return value

    def _gradient(self, loss: Tensor) -> tuple[Tensor | None, ...]:
        try:
            return self._sandbox.grad(loss, [p for _, p in self.named], self._batch)
        except RuntimeError as error:
            if "heckpoint" not in str(error):
                raise
        # Reentrant checkpoints stand a plain backward only. They have run a part of theirs by now, so from the beginning.
        for _, parameter in self.named:
            parameter.grad = None
        self._sandbox.backward(self.loss(), self._batch)
        return tuple(p.grad for _, p in self.named)

    def slope(self, direction: list[Tensor], h: float) -> tuple[float, float]:
        """The centred difference, and the mean of both losses; the parameters are where they were afterwards, but for rounding."""
        torch._foreach_add_(self.tensors, direction, alpha=h)
        up = float(self.loss().detach())
        torch._foreach_add_(self.tensors, direction, alpha=-2 * h)
        down = float(self.loss().detach())
        torch._foreach_add_(self.tensors, direction, alpha=h)
        return (up - down) / (2 * h), (up + down) / 2


def _compare(sandbox: Sandbox, batch: Any, when: str, *, single: bool) -> _Found:
    line = _Line(sandbox, batch)
    cuts: dict[Place, None] = {}
    padding: dict[int, int] = {}

    def see(call: Call) -> None:
        if record.inside:
            return
        if call.name == "embedding" and len(call.args) > 1:
            row = call.kwargs.get("padding_idx", call.args[2] if len(call.args) > 2 else None)
            if isinstance(row, int):
                padding[call.args[1].data_ptr()] = row
        text = CUTS.get(call.name)
        first = call.args[0] if call.args else None
        if text is None and not torch.is_grad_enabled():
            text = "no_grad()" if any(isinstance(a, Tensor) and a.requires_grad for a in call.args) else None
        elif text is None and getattr(call.function, "__self__", None) is Tensor.data:
            text = ".data"
        elif call.name == "embedding" and call.kwargs.get("max_norm", call.args[3] if len(call.args) > 3 else None):
            text = "max_norm"
        if (
            text
            and isinstance(first, Tensor)
            and (first.requires_grad or text in ("no_grad()", "max_norm"))
            and len(cuts) < 20
        ):
            cuts.setdefault(call.place(text))

    with recording(sandbox.model) as record:
        value = line.differentiate(see)
    hooked = [n for n, p in line.named if p._backward_hooks]
    hooked += [n for n, m in sandbox.model.named_modules() if m._backward_hooks or m._backward_pre_hooks]
    for name in hooked[:3]:
        cuts.setdefault(layer_place(sandbox.model, name, "a gradient hook"))
    for name in record.foreign:
        cuts.setdefault(Place(name=name, detail=f"{name} of a library"))
    if not all(bool(torch.isfinite(n)) for n in torch._foreach_norm(line.gradients)):
        raise CannotMeasure("the gradient is not finite")
    direction = _direction(line.gradients, seed=sandbox.seed, along=single)
    for tensor, part in zip(line.tensors, direction, strict=True):
        if tensor.data_ptr() in padding:
            part[padding[tensor.data_ptr()]] = 0  # an embedding keeps the gradient from this row on purpose
    claimed = _dot(line.gradients, direction)
    errors: list[tuple[float, float]] = []
    bends: dict[float, float] = {}
    eps = torch.finfo(torch.float32 if single else torch.float64).eps
    for h in STEPS_SINGLE if single else STEPS:
        sandbox.check_time()
        seen, middle = line.slope(direction, h)
        scale = max(abs(seen), abs(claimed), 1e-300)
        error, bends[h] = abs(seen - claimed) / scale, 2 * abs(middle - value) / h / scale
        if error > GOOD:  # rounding of the two losses, spread over 2h, is no error of the gradient
            error = max(0.0, error - 16 * eps * abs(value) / h / scale)
        errors.append((h, error))
        if error <= GOOD:
            break
    steady, parameter = True, None
    if min(e for _, e in errors) > 1e-3:
        again = float(line.loss().detach())
        steady = abs(again - value) <= 1e-9 * max(1.0, abs(value))
        if steady:
            parameter = layer_place(sandbox.model, _bisect(line, direction, errors[0][0]))
    functions: tuple[FunctionErrors, ...] = ()
    if record.kept and not single:
        functions = check_functions(record, seed=sandbox.seed)
    moment = Moment(
        when=when,
        loss=value,
        tensors=len(line.tensors),
        errors=tuple(errors),
        bend=bends[min(bends)],
        steady=steady,
        parameter=parameter,
    )
    return _Found(moment=moment, cuts=tuple(cuts), functions=functions)


def _direction(gradients: list[Tensor], *, seed: int, along: bool) -> list[Tensor]:
    """A unit direction: for each tensor half its gradient and half random, so that every tensor has about the same share."""
    norms = torch.stack(torch._foreach_norm(gradients)).double()
    alive = norms > 1e-10 * norms.max()
    if not bool(alive.any()) or float(norms.max()) == 0:
        raise CannotMeasure("every gradient is zero")
    if along:
        return list(torch._foreach_div(gradients, float(norms.square().sum().sqrt())))
    generator = torch.Generator(device=gradients[0].device).manual_seed(seed)
    noise = [torch.randn(g.shape, generator=generator, device=g.device, dtype=g.dtype) for g in gradients]
    lengths = torch.stack(torch._foreach_norm(noise)).double().clamp_min(1e-30)
    even = (norms[alive].median() / norms.clamp_min(1e-300)).clamp(1 / EVEN, EVEN)
    even = torch.where(alive, even, torch.ones_like(even))
    total = float((2 * even.square()).sum().sqrt())
    toward = torch.where(alive, even / norms.clamp_min(1e-300), torch.zeros_like(even)) / total
    aside = even / lengths / total
    torch._foreach_mul_(noise, list(aside.to(gradients[0].dtype).unbind()))
    for part, gradient, share in zip(noise, gradients, toward.to(gradients[0].dtype).unbind(), strict=True):
        part.addcmul_(gradient, share)  # in place: no third copy of all parameters
    return noise


def _dot(a: list[Tensor], b: list[Tensor]) -> float:
    return float(sum((_product(x, y) for x, y in zip(a, b, strict=True)), torch.zeros(())))


def _product(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype is torch.float64:
        return torch.dot(x.flatten(), y.flatten())  # without a third tensor of the same size
    return (x * y).sum(dtype=torch.float64)


def _bisect(line: _Line, direction: list[Tensor], h: float) -> str:
    """The parameter that holds most of a mismatch: two forwards for each halving."""
    low, high = 0, len(direction)
    while high - low > 1:
        middle = (low + high) // 2
        part = [d if low <= i < middle else torch.zeros_like(d) for i, d in enumerate(direction)]
        rest = [d if middle <= i < high else torch.zeros_like(d) for i, d in enumerate(direction)]
        first = abs(line.slope(part, h)[0] - _dot(line.gradients, part))
        second = abs(line.slope(rest, h)[0] - _dot(line.gradients, rest))
        low, high = (low, middle) if first >= second else (middle, high)
    return line.names[low]
