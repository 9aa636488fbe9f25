"""What the user gave us: the parts of a training set-up, as objects or as functions that make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nncheck.errors import OutOfTime, TargetError
from nncheck.observe.source import user_frames, words_of
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
    target_error: the error aimed at, or that of a person: the share of wrong answers for labels (0.02), else the loss.
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
    target_error: float | None = None


PARTS = tuple(f.name for f in fields(Recipe))

EXTRA = ("device", "params")
"""What a factory may ask for besides parts: the device, and the model's parameters (`partial(torch.optim.Adam, lr=1e-3)`)."""


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
    target_error: float | None = None
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
    return all(p.default is not p.empty or p.name in (*PARTS, *EXTRA) for p in takes)


def call_factory(part: str, value: Callable[..., Any], parts: Mapping[str, Any], *, place: Place | None = None) -> Any:
    """Call a factory with the parts it names. Raises TargetError if it asks for something else, or fails."""
    name = getattr(value, "__name__", type(value).__name__)
    places = (place,) if place else ()
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise TargetError(
            f"{part} = {name} is an async function",
            places=places,
            help=f"write a plain function that returns the {part}",
        )
    try:
        parameters = tuple(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        parameters = ()  # a builtin without a signature: called with nothing
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parts.get(parameter.name) is not None:
            arguments[parameter.name] = parts[parameter.name]
        elif parameter.name == "params" and parts.get("model") is not None:
            arguments["params"] = parts["model"].parameters()
        elif parameter.default is parameter.empty:
            raise TargetError(
                f"{part} = {name}: its parameter {parameter.name!r} has no default and is not a part nncheck knows",
                places=places,
                help=f"give {parameter.name!r} a default, or write a function without arguments that returns the {part}",
            )
    try:
        made = value(**arguments)
    except (OutOfTime, KeyboardInterrupt, TargetError):
        raise
    except BaseException as error:  # SystemExit, and what a library derives from BaseException
        what = (
            f"called exit({error.code!r})"
            if isinstance(error, SystemExit)
            else f"{type(error).__name__}: {words_of(error)}"
        )
        raise TargetError(f"{part} = {name}() failed: {what}", places=user_frames(error) or places) from error
    if inspect.isawaitable(made):
        close = getattr(made, "close", None)
        if close is not None:  # never awaited on purpose: no warning about it
            close()
        raise TargetError(
            f"{part} = {name}() returned an awaitable",
            places=places,
            help=f"return the {part} itself from a plain function",
        )
    return made
