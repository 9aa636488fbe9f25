"""The user's own model in float64, in place: what finite differences need, as float32 leaves three digits of a derivative.

Parameters and buffers keep their identity and get float64 storage; everything else is lifted where a torch function meets it,
and a cast or `dtype=` that asks for less gives float64. The trial that surrounds this puts the storage back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nncheck.lab.sandbox import Sandbox

_WIDER = {
    torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}  # fmt: skip
_TYPES = {"torch.FloatTensor": "torch.DoubleTensor", "torch.HalfTensor": "torch.DoubleTensor"}
_NARROWING = {Tensor.float, Tensor.half, Tensor.bfloat16}
_ASSIGNING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__get__", "__set__", "__delete__"}


class InDouble(TorchFunctionMode):
    """Context manager: while active, torch functions compute in float64."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if function in _NARROWING:
            function = Tensor.double
        # What is written to must stay the tensor it is; torch lifts the other side by itself.
        kept = 1 if name in _ASSIGNING or (name.endswith("_") and not name.endswith("__")) else 0
        lifted = (*args[:kept], *(lift(a) for a in args[kept:]))
        return function(*lifted, **{k: v if k == "out" else lift(v) for k, v in (kwargs or {}).items()})


def lift(value: Any) -> Any:
    """A value with its tensors and dtypes in float64."""
    if isinstance(value, Tensor):
        wider = _WIDER.get(value.dtype)
        return value if wider is None or value.layout is not torch.strided else value.to(wider)
    if isinstance(value, torch.dtype):
        return _WIDER.get(value, value)
    if isinstance(value, str):
        return _TYPES.get(value, value)
    if type(value) in (list, tuple):
        return type(value)(lift(item) for item in value)
    if type(value) is dict:
        return {key: lift(item) for key, item in value.items()}
    return value


@contextmanager
def in_double(sandbox: Sandbox) -> Iterator[None]:
    """Inside a trial: the set-up's parameters and buffers in float64, and `InDouble` active."""
    holders = [m for m in (sandbox.model, sandbox.setup.loss_fn) if isinstance(m, nn.Module)]
    tensors = [t for m in holders for t in (*m.parameters(), *m.buffers())]
    tensors += [p for group in sandbox.optimizer.param_groups for p in group["params"]]
    for tensor in {id(t): t for t in tensors}.values():
        if tensor.dtype in _WIDER:
            tensor.data = tensor.data.to(_WIDER[tensor.dtype])
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with InDouble():
            yield
    finally:
        torch.set_default_dtype(default)


class ModuleState:
    """What modules hold besides their parameters, so that every evaluation of the loss starts from the same."""

    def __init__(self, sandbox: Sandbox) -> None:
        holders = [m for m in (sandbox.model, sandbox.setup.loss_fn) if isinstance(m, nn.Module)]
        modules = [m for holder in holders for m in holder.modules()]
        self._attributes = [(vars(m), dict(vars(m))) for m in modules]
        self._attributes += [(m._buffers, dict(m._buffers)) for m in modules]
        held = [v for _, saved in self._attributes for v in saved.values() if isinstance(v, Tensor) and v.is_leaf]
        self._tensors = [(t, t.detach().clone()) for t in {id(t): t for t in held}.values() if not t.requires_grad]

    def restore(self) -> None:
        """Put it back."""
        with torch.no_grad():
            for attributes, saved in self._attributes:
                if attributes.keys() != saved.keys() or any(attributes[k] is not v for k, v in saved.items()):
                    for key in [k for k in attributes if k not in saved]:
                        del attributes[key]
                    attributes.update(saved)
            for tensor, value in self._tensors:
                tensor.copy_(value)
