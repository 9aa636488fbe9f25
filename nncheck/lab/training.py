"""A few steps of training inside a trial: the user's optimizer or a known-good one, and what must stand still meanwhile."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.source import user_frames
from nncheck.observe.watch import Call, Handler

# A schedule that starts at a small part of its rate is a warm-up: the rate then rises over this many updates, as it would.
WARM_UP = 20

_DROPOUTS = {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout,
    torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Update:
    """One update: its number from 0, the loss before it, and the forward pass that gave that loss (its graph is gone)."""

    index: int
    loss: float
    outcome: Outcome


def train(
    sandbox: Sandbox,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    ramp: int = 0,
    begin: int = 0,
    clip: float | None = None,
    frozen: bool = False,
    calls: tuple[Handler, ...] = (),
    ready: Callable[[int], None] = lambda index: None,
) -> Iterator[Update]:
    """Update once on each batch, inside a trial; yields after each update, and ends after a loss that is not finite.

    begin: the number of the first update, when a run is taken up again. ramp: the rates rise to their values over so many
    updates. clip: largest gradient norm. frozen: the same random numbers in every update (else another stream in each, the same
    in every run). ready: called with the number of the update once its gradients are there, before they are clipped or used.
    """
    rates = [group.get("lr") for group in optimizer.param_groups]
    closure_only, twice = wants_closure(optimizer), False
    for index, batch in enumerate(batches, begin):
        sandbox.check_time()
        if ramp and index <= ramp:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if isinstance(rate, float):
                    group["lr"] = rate * min(1.0, (index + 1) / ramp)
        first: list[Outcome] = []

        def closure(batch: Any = batch, index: int = index, first: list[Outcome] = first) -> Any:
            # A tensor, as torch hands on; its stub of `step` wants a float.
            optimizer.zero_grad(set_to_none=True)
            seed_everything(sandbox.seed + (0 if frozen else 1 + index))
            with torch.enable_grad():
                outcome = sandbox.forward(batch, index=index, calls=calls)
                begun = not first
                if begun:
                    first.append(outcome)
                _backward(sandbox, outcome.loss, batch, index)
            stepped_by_grad(sandbox, ask=False)
            if begun:
                ready(index)
            if clip is not None:
                nn.utils.clip_grad_norm_(_covered(optimizer), clip)
            return outcome.loss

        try:
            if closure_only:
                optimizer.step(closure)
            else:
                closure()
                try:
                    optimizer.step(*((closure,) if twice else ()))
                except (AssertionError, TypeError, RuntimeError) as error:
                    if twice or "closure" not in str(error):
                        raise
                    twice = True  # as sharpness-aware minimisation: a second pass at another point
                    optimizer.step(closure)
        except (OutOfTime, KeyboardInterrupt, CannotMeasure, TargetError):
            raise
        except Exception as error:
            raise TargetError(
                f"{type(error).__name__} in {type(optimizer).__name__}.step(): {error}", places=user_frames(error)
            ) from error
        loss = float(first[0].loss.detach())
        yield Update(index=index, loss=loss, outcome=first[0])
        if not math.isfinite(loss):
            return


def stepped_by_grad(sandbox: Sandbox, *, ask: bool = True) -> None:
    """Raise CannotMeasure if the optimizer works out gradients of its own, as for privacy: its updates are not the loss's alone."""
    beside = sandbox.fed_beside(ask=ask)
    if beside:
        raise CannotMeasure(
            f"{type(sandbox.optimizer).__name__} steps from `{beside}`, which a backward pass leaves on every parameter "
            "beside `.grad`: what it makes of that is its own"
        )


def _backward(sandbox: Sandbox, loss: Tensor, batch: Any, index: int) -> None:
    """A backward pass. Where it fails, as on a graph left over from before, `gradient-flow` or `forward-pass` says why."""
    try:
        sandbox.backward(loss, batch)
    except RuntimeError as error:
        what = str(error).partition(". ")[0].partition(" (")[0]
        raise CannotMeasure(f"the backward pass of update {index + 1} fails: {what}") from error


def users_optimizer(sandbox: Sandbox, *, decay: bool = True) -> tuple[torch.optim.Optimizer, int]:
    """The user's optimizer at the rate its schedule leads to, and how many updates to rise to it.

    A warm-up or one-cycle schedule has set a starting rate already, often zero; the rate meant is its base or its peak.
    Changes the groups in place: only inside a trial.
    """
    ramp = 0
    for group in sandbox.optimizer.param_groups:
        meant, now = group.get("max_lr", group.get("initial_lr")), group.get("lr")
        if isinstance(meant, (int, float)) and isinstance(now, (int, float)) and meant > 0:
            if now < 0.5 * meant:
                ramp = WARM_UP
            group["lr"] = float(meant)
        if not decay and isinstance(group.get("weight_decay"), (int, float)):
            group["weight_decay"] = 0.0
    return sandbox.optimizer, ramp


def coupled_decay(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weight decay is added to the gradient (SGD, Adam) rather than taken from the weights (AdamW, Lion)."""
    name = type(optimizer).__name__
    flags = [group.get("decoupled_weight_decay") for group in optimizer.param_groups]
    return not (any(flags) or name.endswith("W") or "Lion" in name)


def control_optimizer(sandbox: Sandbox, rate: float) -> torch.optim.Optimizer:
    """Adam over everything trainable, whatever the user's optimizer covers."""
    for module in sandbox.model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            module.sparse = False  # Adam takes no sparse gradients; the trial puts it back
    return torch.optim.Adam(trainable(sandbox), lr=rate, foreach=True)


def trainable(sandbox: Sandbox) -> list[Tensor]:
    """Every leaf that training may change: of the model, of the loss, and what the optimizer holds."""
    owners = [sandbox.model, sandbox.setup.loss_fn]
    leaves: list[Tensor] = [p for owner in owners if isinstance(owner, nn.Module) for p in owner.parameters()]
    leaves += _covered(sandbox.optimizer)
    found = {id(p): p for p in leaves if p.requires_grad and p.is_leaf}
    if not found:
        raise CannotMeasure("nothing is trainable")
    return list(found.values())


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[tuple[Handler, ...]]:
    """Dropout and stochastic depth off: module rates set to zero, functional calls answered with their input.

    Gives the handlers to pass to the forward passes. Undone on leaving, so that a checkpoint made later has the user's rates.
    """
    undo: list[Callable[[], None]] = []

    def put(module: nn.Module, name: str, value: Any) -> None:
        undo.append(lambda: setattr(module, name, value))
        setattr(module, name, type(value)(0))

    for module, name, value in drop_rates(model):
        put(module, name, value)
    try:
        yield (_no_dropout,)
    finally:
        for back in reversed(undo):
            back()


def drop_rates(model: nn.Module) -> list[tuple[nn.Module, str, float]]:
    """(module, attribute, rate) of everything that drops values or whole branches by chance."""
    found: list[tuple[nn.Module, str, float]] = []
    for module in model.modules():
        kind = type(module).__name__.lower()
        for name, value in vars(module).items():
            if not isinstance(value, float) or not 0 < value <= 1:
                continue
            # nn.Dropout.p, MultiheadAttention.dropout, LSTM.dropout, DropPath.drop_prob, attention_dropout, layerdrop ...
            if "drop" in name.lower() or (
                name in ("p", "prob", "rate") and ("drop" in kind or "stochasticdepth" in kind)
            ):
                found.append((module, name, value))
    return found


def is_dropout(function: Callable[..., Any]) -> bool:
    """Whether a torch function is one of dropout's."""
    return function in _DROPOUTS


def _no_dropout(call: Call) -> Any:
    if call.function in _DROPOUTS:
        inplace = call.kwargs.get("inplace") or (len(call.args) > 3 and call.args[3])
        given = call.args[0] if call.args else call.kwargs.get("input")
        return None if inplace else given
    return None


def _covered(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer computes the loss itself, as often as it likes."""
    if isinstance(optimizer, torch.optim.LBFGS):
        return True
    try:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
    except (TypeError, ValueError):
        return False
    return closure is not None and closure.default is closure.empty


def named_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """`Adam(lr=0.001)`."""
    rates = sorted({float(group["lr"]) for group in optimizer.param_groups if "lr" in group})
    return f"{type(optimizer).__name__}(lr={'/'.join(f'{r:g}' for r in rates)})"
