"""What the user gave us: the parts of a training set-up, as objects or as functions that make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nncheck.errors import TargetError
from nncheck.verdict import Place

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training set-up. Every part is an object, or a callable that makes it.

    A callable's parameters must each have a default or be named like a part (`make_optimizer(model)`).

    model: an `nn.Module`, a class, a function returning one, or a LightningModule.
    train_loader, val_loader: iterables of batches: `(inputs, target)`, a tensor, or a dict given as `model(**batch)`.
    loss_fn: `loss_fn(output, target) -> scalar`; not needed if the model returns its loss or `training_step` is there.
    optimizer: defaults to `AdamW(lr=3e-4)`, and the report says so.
    training_step: `(model, batch)`, `(model, batch, batch_idx)` or `(batch)` -> loss.
    train_step: the same, doing the whole step (zero_grad, backward, optimizer.step) and returning the loss.
    scheduler_interval: "step" or "epoch"; epochs: how many the real run will have.
    """

    model: Any
    train_loader: Any = None
    val_loader: Any = None
    loss_fn: Any = None
    optimizer: Any = None
    scheduler: Any = None
    scheduler_interval: str | None = None
    training_step: Callable[..., Any] | None = None
    train_step: Callable[..., Any] | None = None
    epochs: int | None = None


PARTS = tuple(f.name for f in fields(Recipe))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A recipe with every part made: live objects, the user's own.

    `origins` says where in the user's files a part is bound, `bound` and `notes` what was bound and assumed, for people.
    """

    model: nn.Module
    train_loader: Iterable[Any]
    val_loader: Iterable[Any] | None
    loss_fn: Callable[..., Any] | None
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scheduler_interval: str | None
    training_step: Callable[..., Any] | None
    train_step: Callable[..., Any] | None
    epochs: int | None
    default_optimizer: bool
    bound: tuple[str, ...]
    notes: tuple[str, ...]
    origins: Mapping[str, Place] = field(default_factory=dict)


def is_factory(part: str, value: Any) -> bool:
    """Whether `value` is a callable that makes the part rather than the part itself.

    A class is; a module, optimizer or loader instance is not; a loss or step function (it has parameters of its own
    that are neither parts nor optional) is not; a function is if every parameter has a default or names a part.
    """
    from torch import nn

    if inspect.isclass(value):
        return True
    if not callable(value) or isinstance(value, nn.Module) or part in ("training_step", "train_step"):
        return False
    if hasattr(value, "__iter__") or hasattr(value, "__getitem__"):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    takes = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if part in ("loss_fn", "scheduler") and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    return all(p.default is not p.empty or p.name in (*PARTS, "device") for p in takes)


def call_factory(part: str, value: Callable[..., Any], parts: Mapping[str, Any], *, place: Place | None = None) -> Any:
    """Call a factory with the parts it names. Raises TargetError if one of its parameters is not a part."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]  # a builtin without a signature: called with nothing
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in parts and parts[parameter.name] is not None:
            arguments[parameter.name] = parts[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            name = getattr(value, "__name__", repr(value))
            raise TargetError(
                f"{part} = {name}: its parameter {parameter.name!r} has no default and is not a part nncheck knows",
                places=(place,) if place else (),
                help=f"give {parameter.name!r} a default, or write a zero-argument function that returns the {part}",
            )
    return value(**arguments)
