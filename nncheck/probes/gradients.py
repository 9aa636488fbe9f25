"""What gradient each parameter gets in a few steps of the user's own optimizer, and whether the optimizer moves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab.sandbox import Sandbox
from nncheck.observe.norms import norms, peaks
from nncheck.observe.source import layer_place
from nncheck.registry import probe
from nncheck.verdict import Place

# Zero-initialised branches wake up one step after another: LoRA's A after one step, adaLN-zero's blocks after two.
STEPS = 3
# Asked for only while some parameter has had no gradient yet: stochastic depth, LayerDrop, experts that were not routed to,
# or several zero-initialised branches behind one another.
EXTRA_STEPS = 5
# With blocks that are dropped half of the time, one of twelve is still unseen after 8 steps in 5 % of all runs, after 16 in
# 0.02 %. Asked for only where siblings of the waiting block do learn.
SIBLING_STEPS = 16
# The control step: moves a parameter whose gradient the user's optimizer did not apply (rate 0 at the start of a warm-up) by
# this share of its size, or of 1 / sqrt(size) where it is zero itself. Only there so that what lies behind it can wake up.
CONTROL = 0.01


@dataclass(frozen=True, kw_only=True)
class ParameterGradients:
    """One parameter of the model over the steps.

    layer: dotted name of the module that owns it. kind: that module's class.
    gradients, peaks: 2-norm and largest magnitude of its gradient at each step; None where it had none.
    weight: its 2-norm before each step. moved: whether the user's optimizer ever changed it. drifted: whether it changed
    without the optimizer, e.g. a moving average kept in the forward. rate: its learning rate, None if it is in no group.
    alike_before, alike_after: whether its rows (output units) are all equal, at the start and at the end; None if it has
    fewer than two rows or dimensions. place: where its layer is made; only of
    the first weight matrix and of those whose rows start equal.
    """

    name: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    trainable: bool
    gradients: tuple[float | None, ...] = ()
    peaks: tuple[float | None, ...] = ()
    weight: tuple[float, ...] = ()
    moved: bool = False
    drifted: bool = False
    rate: float | None = None
    alike_before: bool | None = None
    alike_after: bool | None = None
    place: Place | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def reached(self) -> bool:
        """Whether a backward pass ever came to it."""
        return any(g is not None for g in self.peaks)

    @property
    def silent(self) -> bool:
        """Whether its gradient was exactly zero at every step that gave one."""
        return self.reached and all(g == 0 for g in self.peaks if g is not None)


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """All parameters over `len(losses)` steps.

    losses: before each step. bad_parameters: those that hold NaN or Inf after a step although they did not before.
    step_error: what the user's `optimizer.step()` raised. backward_error: what a later backward raised.
    control: how many parameters a control step had to move.
    stepped: whether the user's optimizer was asked at all (not one that wants a closure, or steps from other gradients).
    """

    parameters: tuple[ParameterGradients, ...]
    losses: tuple[float, ...]
    bad_parameters: tuple[str, ...] = ()
    step_error: str = ""
    backward_error: str = ""
    control: int = 0
    stepped: bool = True

    @property
    def trainable(self) -> tuple[ParameterGradients, ...]:
        return tuple(p for p in self.parameters if p.trainable)


@probe
def gradients(sandbox: Sandbox) -> Gradients:
    """A forward, a backward and the user's step on each of the first batches; more while something is without gradient."""
    batches = sandbox.feed.take(STEPS)
    rates = _rates(sandbox.optimizer)
    fed_by_grad = not sandbox.fed_beside()
    with sandbox.trial() as model:
        rows = [
            _Row(name=name, tensor=p, layer=name.rpartition(".")[0])
            for name, p in model.named_parameters()
            if not nn.parameter.is_lazy(p)
        ]
        modules = dict(model.named_modules())
        before = _alike([row.tensor for row in rows])
        first = next((row for row in rows if row.tensor.ndim > 1), None)
        losses: list[float] = []
        step_error, backward_error, control = "", "", 0
        bad: tuple[str, ...] = ()
        stepped = fed_by_grad and not _wants_closure(sandbox.optimizer)
        for step in range(SIBLING_STEPS):
            if step >= STEPS and not any(row.waiting for row in rows):
                break
            if step >= STEPS + EXTRA_STEPS and not _one_of_many(rows):
                break
            if step >= STEPS and len(batches) <= step:
                batches = sandbox.feed.take(step + 1)
            loss, backward_error = _pass(sandbox, rows, batches[step % len(batches)], step)
            losses.append(loss)
            if backward_error:
                break
            if not math.isfinite(loss):
                break
            held = [row.tensor.detach().clone() for row in rows]
            if stepped and not step_error:
                step_error, stepped = _step(sandbox.optimizer)
            control += _settle(rows, held)
            del held
            bad = tuple(
                row.name for row, p in zip(rows, peaks([r.tensor for r in rows]), strict=True) if not _finite(p)
            )
            if bad:
                break
        after = _alike([row.tensor for row in rows])
        parameters = tuple(
            ParameterGradients(
                name=row.name,
                layer=row.layer,
                kind=type(modules[row.layer]).__name__ if row.layer in modules else "",
                shape=tuple(row.tensor.shape),
                trainable=row.tensor.requires_grad,
                gradients=tuple(row.norms),
                peaks=tuple(row.peaks),
                weight=tuple(row.weights),
                moved=row.moved,
                drifted=row.drifted,
                rate=rates.get(id(row.tensor)),
                alike_before=before[i],
                alike_after=after[i],
                place=layer_place(model, row.name) if before[i] or row is first else None,
            )
            for i, row in enumerate(rows)
        )
    return Gradients(
        parameters=parameters,
        losses=tuple(losses),
        bad_parameters=bad,
        step_error=step_error,
        backward_error=backward_error,
        control=control,
        stepped=stepped,
    )


class _Row:
    """A parameter while it is being measured."""

    def __init__(self, *, name: str, tensor: Tensor, layer: str) -> None:
        self.name = name
        self.tensor = tensor
        self.layer = layer
        self.norms: list[float | None] = []
        self.peaks: list[float | None] = []
        self.weights: list[float] = []
        self.moved = False
        self.drifted = False

    @property
    def waiting(self) -> bool:
        return self.tensor.requires_grad and not any(self.peaks)


def _one_of_many(rows: Sequence[_Row]) -> bool:
    """Whether a waiting parameter has a namesake in another block of its list that does learn: `layers.3.fc` and `layers.4.fc`."""
    awake = {_pattern(row.name) for row in rows if not row.waiting}
    return any(row.waiting and "#" in (pattern := _pattern(row.name)) and pattern in awake for row in rows)


def _pattern(name: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def _pass(sandbox: Sandbox, rows: Sequence[_Row], batch: Any, index: int) -> tuple[float, str]:
    """One forward and backward; appends what every parameter got. Returns the loss, and what backward raised if anything."""
    for row in rows:
        row.tensor.grad = None
    for group in sandbox.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    tensors = [row.tensor for row in rows]
    start = norms(tensors)
    outcome = sandbox.forward(batch, index=index)
    for row, old, new in zip(rows, start, norms(tensors), strict=True):
        row.weights.append(old or 0.0)
        row.drifted |= old != new and not (old != old and new != new)
    loss = float(outcome.loss.detach())
    if math.isfinite(loss):
        try:
            sandbox.backward(outcome.loss, batch)
        except RuntimeError as error:
            # A graph from before this step: something computed once, outside the forward, or a state carried over.
            return loss, f"{type(error).__name__}: {str(error).partition('. ')[0]}"
    grads = [t.grad for t in tensors]
    for row, norm, peak in zip(rows, norms(grads), peaks(grads), strict=True):
        row.norms.append(norm)
        row.peaks.append(peak)
    return loss, ""


def _step(optimizer: torch.optim.Optimizer) -> tuple[str, bool]:
    """The user's step. Returns what it raised, and whether it could be asked without a closure."""
    try:
        optimizer.step()
    except Exception as error:  # noqa: BLE001  # user code: whatever it raises is the finding
        if "closure" in str(error).lower():
            return "", False
        return f"{type(error).__name__}: {error}", True
    return "", True


def _settle(rows: Sequence[_Row], held: list[Tensor]) -> int:
    """Notes what the user's step moved, and moves the rest that has a gradient by the control step."""
    with torch.no_grad():
        torch._foreach_sub_(held, [row.tensor.detach() for row in rows])  # in place: `held` is not needed any more
        differences = peaks(held)
        moved = 0
        for row, difference in zip(rows, differences, strict=True):
            row.moved |= bool(difference)
            grad, peak = row.tensor.grad, row.peaks[-1]
            if difference or grad is None or not peak or not math.isfinite(peak) or grad.layout is not torch.strided:
                continue
            norm, size = row.norms[-1] or peak, row.weights[-1] or 1.0
            row.tensor.sub_(grad * (CONTROL * size / norm))
            moved += 1
    return moved


def _wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.LBFGS)


def _rates(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    return {id(p): float(group.get("lr", 1.0)) for group in optimizer.param_groups for p in group["params"]}


def _alike(tensors: Sequence[Tensor]) -> list[bool | None]:
    """Whether all rows of each tensor are equal. Two rows are compared first: in a healthy model they settle it."""
    rows = {i: t.detach() for i, t in enumerate(tensors) if t.ndim > 1 and t.size(0) > 1 and t.numel()}
    pairs = peaks([t[0] - t[1] for t in rows.values()])
    likely = [i for i, difference in zip(rows, pairs, strict=True) if difference == 0]
    spreads = peaks([rows[i] - rows[i][:1] for i in likely])
    result: list[bool | None] = [False if i in rows else None for i in range(len(tensors))]
    for i, spread in zip(likely, spreads, strict=True):
        result[i] = spread == 0
    return result


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)
