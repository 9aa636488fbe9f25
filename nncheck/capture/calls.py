"""A loop without a loader: its batch is what it gives its model and, after that, its loss."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nncheck.lab import batch as batches
from nncheck.lab.snapshot import RandomState
from nncheck.losses.call import KINDS


class Taken:
    """The data tensors of one iteration, in the order in which they come; `given`: those to be used instead."""

    def __init__(self, given: Any = None) -> None:
        self._given = None if given is None else iter([t for _, t in batches.named_tensors(given)])
        self._known: set[int] = set()
        self.tensors: list[Tensor] = []

    def batch(self) -> Any:
        """A tensor, or a tuple of inputs and targets; None if there was none."""
        return self.tensors[0] if len(self.tensors) == 1 else tuple(self.tensors) or None

    def data(self, tensor: Tensor) -> Tensor:
        """A tensor that the loop gives its model or loss: itself, or the one to be used instead."""
        if tensor.requires_grad or tensor.grad_fn is not None or id(tensor) in self._known:
            return tensor
        if self._given is not None:
            tensor = next(self._given, tensor)
        self._known.add(id(tensor))
        self.tensors.append(tensor)
        return tensor


class Calls:
    """Takes down, or puts in, the data of one iteration: the arguments of the models' calls, then the losses' targets."""

    def __init__(self, models: list[nn.Module]) -> None:
        self._models = models
        self._depth = 0
        self._random: RandomState | None = None
        self.taken = Taken()

    @contextmanager
    def around(self, batch: Any, random: RandomState | None = None) -> Iterator[None]:
        """One iteration, on `batch` or, if it is None, on whatever the loop brings; `random`: as it is to be at the first call."""
        self.taken = Taken(batch)
        self._depth, self._random = 0, random
        # First of all: what a probe changes at the model's door is changed after the batch was put in.
        hooks = [m.register_forward_pre_hook(self._entered, prepend=True, with_kwargs=True) for m in self._models]
        hooks += [m.register_forward_hook(self._left, always_call=True) for m in self._models]
        try:
            with _Losses(self):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def inside(self) -> bool:
        """Whether one of the models is running."""
        return self._depth > 0

    def _entered(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._depth += 1
        if self._depth > 1 or not torch.is_grad_enabled():
            return None  # a call without gradients is a validation
        if self._random is not None:
            self._random.restore()
            self._random = None
        return batches.map_tensors(self.taken.data, args), batches.map_tensors(self.taken.data, kwargs)

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        self._depth -= 1


def target_of(function: Any, args: Any, kwargs: Any) -> tuple[inspect.BoundArguments | None, Any]:
    """The arguments of a loss function by name, and its target if that is a tensor."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None, None
    target = bound.arguments.get("target")
    return bound, target if isinstance(target, Tensor) else None


class _Losses(TorchFunctionMode):
    """Targets are put in before the loss is called: the loop's own may be of another length."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in KINDS or self._calls.inside:
            return function(*args, **kwargs)  # a loss inside the model has its target from the model's arguments
        bound, target = target_of(function, args, kwargs)
        if bound is None or target is None:
            return function(*args, **kwargs)
        bound.arguments["target"] = self._calls.taken.data(target)
        return function(*bound.args, **bound.kwargs)
