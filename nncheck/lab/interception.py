"""A user's whole training step, run for its loss alone: what it would do to the gradients and weights is recorded, not done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab.modes import switches_mode
from nncheck.observe.source import is_users

CLIPS = ("clip_grad_norm_", "clip_grad_value_")
_MISSING = object()


class Patches:
    """Attributes put in place of others, and taken back in reverse order."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of a class, module or object."""
        self._undo.append((owner, name, vars(owner).get(name, _MISSING)))
        if isinstance(owner, nn.Module):
            vars(owner)[name] = value  # past nn.Module's own __setattr__
        else:
            setattr(owner, name, value)

    def take_back(self) -> None:
        """Put every attribute back."""
        for owner, name, value in reversed(self._undo):
            if value is not _MISSING:
                setattr(owner, name, value) if not isinstance(owner, nn.Module) else vars(owner).update({name: value})
            elif isinstance(owner, nn.Module):
                vars(owner).pop(name, None)
            else:
                delattr(owner, name)
        self._undo.clear()


def holders_of(function: Any) -> tuple[tuple[Any, str], ...]:
    """Modules that hold a function of torch's under a name: torch's own, and the user's after `from ... import`."""
    return _holders(function, len(sys.modules))


@cache
def _holders(function: Any, _: int) -> tuple[tuple[Any, str], ...]:
    """Looked up again only after something more was imported: it takes a few milliseconds."""
    found: list[tuple[Any, str]] = []
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if not isinstance(name, str) or not (name.startswith("torch.nn.utils") or _is_users(module)):
            continue
        found.extend((module, attribute) for attribute, value in list(vars(module).items()) if value is function)
    return tuple(found)


def _is_users(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_users(file)


class EnoughLosses(BaseException):
    """Ends a step at one of its backward passes; no `except Exception` of the user's holds it up."""


# A loss that is divided before going back is divided by the number of batches that are accumulated.
MOST_ACCUMULATED = 64


@dataclass(kw_only=True)
class Withheld:
    """What the step called: the losses it would have gone back from, before any scaling, each with the parameters' versions.

    steps: the optimizers that would have stepped, each with how many losses had come before. schedules: the schedules likewise.
    """

    losses: list[tuple[Tensor, int]] = field(default_factory=list)
    steps: list[tuple[Any, int]] = field(default_factory=list)
    schedules: list[Any] = field(default_factory=list)

    def stale(self, version: int) -> bool:
        """Whether the step has moved the weights itself since every one of its losses."""
        return bool(self.losses) and all(then != version for _, then in self.losses)

    def loss(self, returned: Tensor | None, version: int) -> Tensor | None:
        """The loss with its graph: what backward was called on, or their sum where that was done several times.

        A loss that was only divided is taken as it was returned. One whose weights the step itself has moved since can no
        longer be gone back from: it is left out.
        """
        scalars = [loss.reshape(()) for loss, then in self.losses if loss.numel() == 1 and then == version]
        if not scalars:
            return returned
        if len(scalars) > 1:
            return torch.stack(scalars).sum()
        if returned is not None and returned.requires_grad:
            value, back = float(returned.detach()), float(scalars[0].detach())
            parts = value / back if back else 0.0
            if 1 < round(parts) <= MOST_ACCUMULATED and abs(parts - round(parts)) < 1e-4 * parts:
                return returned
        return scalars[0]


def held_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every parameter of a model and of an optimizer."""
    return [*model.parameters(), *(p for group in optimizer.param_groups for p in group["params"])]


@contextmanager
def withheld(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    *,
    others: Iterable[Any] = (),
    at_most: int | None = None,
) -> Iterator[Withheld]:
    """Inside: backward, zero_grad, clipping, optimizer and scheduler steps and gradient scaling do nothing.

    others: what else may step, optimizers among it. at_most: so many backward passes end the step, by `EnoughLosses`.
    """
    seen = Withheld()
    patches = Patches()
    parameters = held_parameters(model, optimizer)
    grads = [(p, p.grad) for p in parameters]
    modes = [(module, module.training) for module in model.modules()]

    def backward(loss: Tensor, *_: Any, **__: Any) -> None:
        seen.losses.append((loss, versions(parameters)))
        if len(seen.losses) == at_most:
            raise EnoughLosses
        for p in parameters:  # code that reads gradients finds some; they are taken away again below
            if p.grad is None:
                p.grad = torch.zeros_like(p)

    def backwards(tensors: Any, *_: Any, **__: Any) -> None:
        for tensor in [tensors] if isinstance(tensors, Tensor) else tensors:
            backward(tensor)

    patches.put(Tensor, "backward", backward)
    patches.put(torch.autograd, "backward", backwards)
    for name in CLIPS:
        for module, attribute in holders_of(getattr(torch.nn.utils, name)):
            patches.put(module, attribute, lambda *_, **__: torch.zeros(()))

    def step(stepping: Any, closure: Callable[[], Any] | None = None, **_: Any) -> Any:
        result = None if closure is None else closure()
        seen.steps.append((stepping, len(seen.losses)))
        return result

    for kind in kinds_of(torch.optim.Optimizer):
        for name, stub in (("step", step), ("zero_grad", _nothing)):
            if name in vars(kind):
                patches.put(kind, name, stub)
    for each in {id(one): one for one in (optimizer, *others) if isinstance(one, torch.optim.Optimizer)}.values():
        if "step" in vars(each):  # a scheduler has put a counter around it
            patches.put(each, "step", partial(step, each))
    patches.put(nn.Module, "zero_grad", _nothing)
    for kind in (
        *kinds_of(torch.optim.lr_scheduler.LRScheduler),
        *([type(scheduler)] if scheduler is not None else []),
    ):
        if "step" in vars(kind):
            patches.put(kind, "step", lambda schedule, *_, **__: seen.schedules.append(schedule))
    scaler = torch.amp.GradScaler
    patches.put(scaler, "scale", lambda self, outputs: outputs)
    patches.put(scaler, "step", lambda self, optimizer, *arguments, **_: optimizer.step(*arguments))
    for name in ("unscale_", "update"):
        patches.put(scaler, name, _nothing)
    if not model.training and switches_mode(model):  # a mode under test is not the step's to change
        patches.put(model, "train", lambda mode=True: model)
    try:
        yield seen
    finally:
        patches.take_back()
        for p, grad in grads:
            p.grad = grad
        for module, training in modes:
            module.training = training


def closure_given(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Whether an optimizer's `step` is given a closure; `arguments` as a step's hook has them, the optimizer first."""
    return (len(arguments) > 1 and callable(arguments[1])) or callable(options.get("closure"))


def versions(parameters: Iterable[Tensor]) -> int:
    """A number that grows with every change in place."""
    return sum(p._version for p in parameters)


def kinds_of(root: Any) -> Iterator[Any]:
    """A class and all that are derived from it."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds_of(kind)


def _nothing(*_: Any, **__: Any) -> None:
    return None
