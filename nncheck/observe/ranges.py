"""Which values a result can take at all: bounds set by the functions that made it, followed through what is done to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nncheck.observe.watch import Call
from nncheck.verdict import Place

# The lowest values of GELU (at -0.7518), SiLU (-1.2785), Mish (-1.1924) and hardswish (-1.5) were found numerically.
_BOUNDS = {
    "relu": (0.0, math.inf), "sigmoid": (0.0, 1.0), "special_expit": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0),
    "softmin": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "softplus": (0.0, math.inf), "exp": (0.0, math.inf),
    "relu6": (0.0, 6.0), "abs": (0.0, math.inf), "square": (0.0, math.inf), "sqrt": (0.0, math.inf), "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0), "gelu": (-0.17, math.inf), "silu": (-0.2785, math.inf), "mish": (-0.3089, math.inf),
    "hardswish": (-0.375, math.inf), "log_softmax": (-math.inf, 0.0), "logsigmoid": (-math.inf, 0.0),
    "log_sigmoid": (-math.inf, 0.0), "selu": (-1.7581, math.inf), "expm1": (-1.0, math.inf),
}  # fmt: skip
_MOVES = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "clone",
    "__getitem__", "select", "narrow", "chunk", "split", "unbind", "movedim", "swapaxes", "expand", "view_as", "reshape_as", "to",
    "float", "double", "half", "bfloat16", "type_as", "expand_as", "index_select", "gather", "flip", "roll", "repeat", "t",
    "take_along_dim", "repeat_interleave", "masked_select", "type", "cpu", "cuda", "identity", "moveaxis", "diagonal",
}  # fmt: skip
_JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"}
_SUMS = {
    "add": 1, "__add__": 1, "__radd__": 1, "__iadd__": 1, "sub": -1, "__sub__": -1, "__isub__": -1, "subtract": -1,
}  # fmt: skip
_PRODUCTS = {"mul", "__mul__", "__rmul__", "__imul__", "multiply"}
_QUOTIENTS = {"div", "__truediv__", "__itruediv__", "__div__", "divide", "true_divide"}


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a tensor's values lie between, the function that set this, and how many functions have changed the values since."""

    low: float
    high: float
    function: str
    layer: str
    place: Place
    since: int = 0


class Ranges:
    """Handler for a watch: the bound of every tensor made so far that has one. Holds these tensors until it is dropped."""

    def __init__(self, locate: Callable[[Call], Place]) -> None:
        self._locate = locate
        self._known: dict[int, tuple[Tensor, Bound]] = {}

    def of(self, tensor: Tensor) -> Bound | None:
        """The bound of a tensor, if there is one."""
        found = self._known.get(id(tensor))
        return found[1] if found is not None else None

    def __call__(self, call: Call) -> None:
        if call.name == "__setitem__" and call.args:
            self._known.pop(id(call.args[0]), None)
        results = [call.result] if isinstance(call.result, Tensor) else call.result
        if not isinstance(results, (tuple, list)):
            return
        bound = self._bound(call)
        for result in results:
            if not isinstance(result, Tensor):
                continue
            if bound is not None and (result.is_floating_point()):
                self._known[id(result)] = (result, bound)
            else:
                self._known.pop(id(result), None)  # changed in place, beyond what is followed

    def _bound(self, call: Call) -> Bound | None:
        name = call.name.removesuffix("_") if not call.name.endswith("__") else call.name
        given = call.args[0] if call.args else call.kwargs.get("input")
        own = self.of(given) if isinstance(given, Tensor) else None
        limits = _limits(name, call)
        if limits is not None:
            return self._set(call, name, limits, own)
        if name in _MOVES or (name == "dropout" and not _drops(call)):
            return own
        if name == "__get__":  # `.mT`, `.T`, `.data`
            return own if isinstance(call.result, Tensor) and isinstance(given, Tensor) else None
        if name == "dropout" and own is not None:
            # It puts zeros in and scales the rest up by 1 / (1 - p): only the sign survives.
            return _moved(own, 0.0 if own.low >= 0 else -math.inf, 0.0 if own.high <= 0 else math.inf)
        if name in _JOINS:
            parts = call.args[0] if call.args else call.kwargs.get("tensors", ())
            bounds = [self.of(part) for part in parts]
            found = [b for b in bounds if b is not None]
            if not found or len(found) < len(bounds):
                return None
            return _moved(found[0], min(b.low for b in found), max(b.high for b in found))
        return self._arithmetic(name, call, own)

    def _set(self, call: Call, name: str, limits: tuple[float, float], own: Bound | None) -> Bound | None:
        low, high = limits
        if own is not None and name in ("clamp", "clip", "clamp_min", "clamp_max", "relu", "hardtanh"):
            tighter = max(low, own.low), min(high, own.high)
            if tighter[0] <= tighter[1]:
                if name.startswith("cl"):  # a guard: clamp(1e-7, 1 - 1e-7) after a sigmoid
                    return _moved(own, *tighter)
                low, high = tighter
        return Bound(low=low, high=high, function=name, layer=call.layer, place=self._locate(call))

    def _arithmetic(self, name: str, call: Call, own: Bound | None) -> Bound | None:
        """Sums and products of a bounded tensor with constants, or with another bounded one."""
        if name in ("neg", "__neg__") and own is not None:
            return _moved(own, -own.high, -own.low)
        if name in ("__rsub__", "rsub"):
            own, other = own, self._interval(call, 1)
            return None if own is None or other is None else _moved(own, other[0] - own.high, other[1] - own.low)
        if name == "mean" and own is not None:
            return _moved(own, own.low, own.high)
        if len(call.args) < 2 or set(call.kwargs) - {"out"}:
            return None
        pair = [self._interval(call, 0), self._interval(call, 1)]
        source = own or (self.of(call.args[1]) if isinstance(call.args[1], Tensor) else None)
        first, second = pair
        if source is None or first is None or second is None:
            return None
        if name in _SUMS:
            if _SUMS[name] < 0:
                second = (-second[1], -second[0])
            return _moved(source, first[0] + second[0], first[1] + second[1])
        if name in _PRODUCTS:
            return _spanned(source, [a * b if a and b else 0.0 for a in first for b in second])
        if name in _QUOTIENTS and (second[0] > 0 or second[1] < 0):
            return _spanned(source, [a / b if a else 0.0 for a in first for b in second])
        return None

    def _interval(self, call: Call, position: int) -> tuple[float, float] | None:
        """What an operand lies between: a number or a small constant tensor itself, a followed tensor its bound."""
        value: Any = call.args[position] if len(call.args) > position else None
        if isinstance(value, bool):
            return None
        if isinstance(value, (int, float)):
            return float(value), float(value)
        if isinstance(value, Tensor):
            bound = self.of(value)
            if bound is not None:
                return bound.low, bound.high
            if value.numel() and not value.requires_grad and value.numel() <= 4096 and not value.is_complex():
                return float(value.min()), float(value.max())
        return None


def _limits(name: str, call: Call) -> tuple[float, float] | None:
    """The bounds a function sets by itself."""
    if name in _BOUNDS:
        return _BOUNDS[name]
    if name in ("elu", "celu"):
        alpha = _number(call, 1, "alpha", 1.0)
        return (-abs(alpha), math.inf) if math.isfinite(alpha) else None
    if name == "hardtanh":
        return _ordered(_number(call, 1, "min_val", -1.0), _number(call, 2, "max_val", 1.0))
    if name in ("clamp", "clip"):
        return _ordered(_number(call, 1, "min", -math.inf), _number(call, 2, "max", math.inf))
    if name == "clamp_min":
        return _ordered(_number(call, 1, "min", math.nan), math.inf)
    if name == "clamp_max":
        return _ordered(-math.inf, _number(call, 1, "max", math.nan))
    if name == "threshold":
        floor, value = _number(call, 1, "threshold", math.nan), _number(call, 2, "value", math.nan)
        return _ordered(min(floor, value), math.inf)
    return None


def _ordered(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if low <= high and (math.isfinite(low) or math.isfinite(high)) else None


def _number(call: Call, position: int, name: str, default: float) -> float:
    value = call.args[position] if len(call.args) > position else call.kwargs.get(name)
    if value is None:
        return default
    if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
        return float(value)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _drops(call: Call) -> bool:
    training = call.args[2] if len(call.args) > 2 else call.kwargs.get("training", True)
    share = call.args[1] if len(call.args) > 1 else call.kwargs.get("p", 0.5)
    return bool(training) and bool(share)


def _spanned(source: Bound, ends: Sequence[float]) -> Bound | None:
    return None if any(math.isnan(e) for e in ends) else _moved(source, min(ends), max(ends))


def _moved(source: Bound, low: float, high: float) -> Bound | None:
    """The bound after a change of the values; None if nothing is left of it."""
    if math.isnan(low) or math.isnan(high) or (math.isinf(low) and math.isinf(high)):
        return None
    return Bound(
        low=low, high=high, function=source.function, layer=source.layer, place=source.place, since=source.since + 1
    )
