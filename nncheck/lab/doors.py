"""What is given to the model and what comes of it: a pass whose arguments are seen, and may be changed, at the model's door.

What a training step does to a batch before the model sees it (a shift, MixUp) is done as ever; what it makes of the batch
besides, its targets, stays as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncheck.lab import batch as batches
from nncheck.lab.objective import Outcome
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.watch import Handler

Change = Callable[[int, Tensor], Tensor]
"""Given the number of an argument in the pass and its tensor, what the model is to be given instead."""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A tensor given to an outermost module: its number in the pass, and the name of the parameter that takes it."""

    index: int
    name: str
    tensor: Tensor


@dataclass(kw_only=True)
class Passage:
    """What went in and out of the outermost modules during one forward pass."""

    arguments: list[Argument] = field(default_factory=list)
    outputs: list[tuple[str, Tensor]] = field(default_factory=list)
    outcome: Outcome | None = None
    changing: bool = False


def passage(sandbox: Sandbox, batch: Any, *, change: Change | None = None, calls: tuple[Handler, ...] = ()) -> Passage:
    """One metered forward pass to the loss, inside a trial, with the model's arguments changed on their way in."""
    seen = Passage()

    def quiet(handler: Handler) -> Handler:
        # What is done at the door is none of the model's doing.
        return lambda call: None if seen.changing else handler(call)

    with _doors(sandbox, seen, change):
        seen.outcome = sandbox.forward(batch, calls=tuple(quiet(handler) for handler in calls))
    return seen


@contextmanager
def _doors(sandbox: Sandbox, seen: Passage, change: Change | None) -> Iterator[None]:
    depth = 0

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        nonlocal depth
        depth += 1
        if depth > 1:
            return None
        seen.changing = True
        names = iter(_names(module, args, kwargs))

        def let_in(tensor: Tensor) -> Tensor:
            index = len(seen.arguments)
            seen.arguments.append(Argument(index=index, name=next(names, ""), tensor=tensor.detach()))
            return tensor if change is None else change(index, tensor)

        changed: tuple[Any, Any] = batches.map_tensors(let_in, (args, kwargs))
        seen.changing = False
        return None if change is None else changed

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            seen.changing = True
            seen.outputs.extend(named_outputs(output))
            seen.changing = False

    doors = list(sandbox.model.modules()) if sandbox.objective.form == "training_step" else [sandbox.model]
    hooks: list[Any] = []
    try:
        for door in doors:
            hooks.append(door.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.append(door.register_forward_hook(leave, always_call=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def named_outputs(output: Any) -> list[tuple[str, Tensor]]:
    """The floating-point tensors in what a model returned, complex ones as pairs of numbers."""
    found = list(batches.named_tensors(output))
    if not found and hasattr(output, "__dict__"):  # a distribution, or an output class of the user's
        found = list(batches.named_tensors(vars(output)))
    real = [(name, torch.view_as_real(t) if t.is_complex() else t) for name, t in found]
    return [(name or "the output", t.detach()) for name, t in real if t.is_floating_point()]


def _names(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """The name of every tensor given, by the parameter of `forward` that takes it."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for position, value in enumerate(args):
        rest = position >= len(parameters) or parameters[position].kind is inspect.Parameter.VAR_POSITIONAL
        own = f"[{position}]" if rest else parameters[position].name
        names.extend(name for name, _ in batches.named_tensors(value, own))
    names.extend(name for key, value in kwargs.items() for name, _ in batches.named_tensors(value, key))
    return names


def other_values(tensor: Tensor, *, seed: int = 0) -> Tensor:
    """A tensor of other values of the same kind: another token of the batch everywhere, or numbers of the same spread."""
    generator = torch.Generator().manual_seed(seed)
    if tensor.is_floating_point():
        spread = tensor.float().std(correction=0) or 1.0
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
        return (tensor.float().roll(1, 0) + noise * spread).to(tensor.dtype)
    known, place = torch.unique(tensor, return_inverse=True)
    if len(known) < 2:
        return tensor.clone()
    step = torch.randint(1, len(known), tensor.shape, generator=generator).to(tensor.device)
    changed: Tensor = known[(place + step) % len(known)]
    return changed.to(tensor.dtype)


# A zero-initialised head, residual branch or adapter hides what its input depends on. Zeros become numbers of the size of
# the usual initialisation of transformers; a tensor that is not zero throughout changes by a thousandth, for single zero columns.
ZERO_STD, SHAKEN = 0.02, 1e-3


def wake(model: nn.Module, *, seed: int = 0) -> None:
    """Inside a trial: change parameters a little, so that nothing is hidden behind a zero. The trial puts them back."""
    generator = torch.Generator().manual_seed(seed)
    tables = [
        m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.padding_idx is not None
    ]
    padding = {id(m.weight): m.padding_idx for m in tables}
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.requires_grad or not parameter.is_floating_point() or not parameter.numel():
                continue
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                continue
            size = float(parameter.detach().float().square().mean().sqrt())
            if size != size or size == float("inf"):
                continue
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device, parameter.dtype)
            if id(parameter) in padding:
                noise[padding[id(parameter)]] = 0  # the row that pads stays what it is in every training
            parameter.add_(noise * (SHAKEN * size if size else ZERO_STD))


def woken_passage(
    sandbox: Sandbox,
    batch: Any,
    *,
    change: Change | None = None,
    calls: tuple[Handler, ...] = (),
    mode: Literal["train", "eval"] = "eval",
) -> Passage:
    """A passage in a trial of its own, with the model woken."""
    with sandbox.trial(mode=mode) as model:
        wake(model)
        return passage(sandbox, batch, change=change, calls=calls)
