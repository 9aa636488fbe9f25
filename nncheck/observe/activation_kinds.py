"""Which torch calls are activation functions, however they are spelt, and how steep each is where it was used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nncheck.observe.watch import Call

Family = Literal["rectifier", "bounded", "smooth", "softmax"]

_BOUNDED = {"tanh", "sigmoid", "hardsigmoid", "softsign", "special_expit"}
_SMOOTH = {"gelu", "silu", "mish", "hardswish", "elu", "celu", "selu", "softplus"}

# The largest derivatives, by which slopes are divided: GELU at sqrt(2); SiLU at 2.40, Mish at 1.49 (found numerically).
_STEEPEST = {"gelu": 1.1290, "silu": 1.0998, "mish": 1.0885, "hardswish": 1.5}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An activation function as it was called.

    rectifier: exact zero on one side (units can die). bounded: flat on both sides. smooth: flat on one side, never exactly.
    low, high: the values at which a clipping function is flat; infinite where it is not.
    """

    name: str
    family: Family
    low: float = -math.inf
    high: float = math.inf


def kind_of(call: Call) -> Kind | None:
    """The activation function a call is, or None."""
    name = call.name.strip("_")
    if name in ("relu", "softmax"):
        return Kind(name=name, family="rectifier", low=0.0) if name == "relu" else Kind(name=name, family="softmax")
    if name in _BOUNDED:
        return _bounded(name)
    if name in _SMOOTH:
        return Kind(name=name, family="smooth")
    if name == "relu6":
        return Kind(name=name, family="rectifier", low=0.0, high=6.0)
    if name == "hardtanh":
        return _clipped("hardtanh", _number(call, 1, "min_val", -1.0), _number(call, 2, "max_val", 1.0))
    if name in ("clamp", "clip"):
        return _clipped("clamp", _number(call, 1, "min", -math.inf), _number(call, 2, "max", math.inf))
    if name == "clamp_min":
        return _clipped("clamp", _number(call, 1, "min", -math.inf), math.inf)
    if name == "threshold" and _number(call, 1, "threshold", math.nan) == 0 == _number(call, 2, "value", math.nan):
        return Kind(name="threshold", family="rectifier", low=0.0)
    if name == "maximum" and _is_zero(_argument(call, 1, "other")):
        return Kind(name="maximum", family="rectifier", low=0.0)
    return None


def _bounded(name: str) -> Kind:
    name = "sigmoid" if name == "special_expit" else name
    return Kind(name=name, family="bounded", low=-1.0 if name in ("tanh", "softsign") else 0.0, high=1.0)


def _clipped(name: str, low: float, high: float) -> Kind | None:
    if low == 0 and (high == math.inf or high == 6):
        return Kind(name="relu6" if high == 6 else name, family="rectifier", low=0.0, high=high)
    if math.isfinite(low) and math.isfinite(high):
        return Kind(name=name, family="bounded", low=low, high=high)
    return None  # one-sided at another level: a guard against log(0) or the like, no activation


def _argument(call: Call, position: int, name: str) -> Any:
    return call.args[position] if len(call.args) > position else call.kwargs.get(name)


def _number(call: Call, position: int, name: str, default: float) -> float:
    value = _argument(call, position, name)
    return float(value) if isinstance(value, (int, float)) else (default if value is None else math.nan)


def _is_zero(value: Any) -> bool:
    # A 0-D constant on the CPU: asking it costs no wait for a device.
    return isinstance(value, Tensor) and value.ndim == 0 and value.device.type == "cpu" and float(value) == 0.0


def slope(kind: Kind, given: Tensor, result: Tensor, *, kept: bool) -> Tensor | None:
    """The derivative over its largest value, element by element, 0 (flat) to 1 (steepest).

    `kept`: whether `given` still holds the input (an in-place call has overwritten it); None if it cannot be told without.
    """
    if kind.name == "tanh":
        return 1 - result * result
    if kind.name == "sigmoid":
        return 4 * result * (1 - result)
    if kind.name == "softsign":
        return (1 - result.abs()) ** 2
    if kind.family == "rectifier" or kind.name in ("hardtanh", "clamp", "hardsigmoid"):
        return ((result > kind.low) & (result < kind.high)).to(torch.float32)
    if not kept:
        return None
    if kind.name == "gelu":
        density = torch.exp(-given * given / 2) / math.sqrt(2 * math.pi)
        steep = 0.5 * (1 + torch.erf(given / math.sqrt(2))) + given * density
    elif kind.name == "silu":
        sigmoid = torch.sigmoid(given)
        steep = sigmoid * (1 + given * (1 - sigmoid))
    elif kind.name == "mish":
        tanh = torch.tanh(torch.nn.functional.softplus(given))
        steep = tanh + given * (1 - tanh * tanh) * torch.sigmoid(given)
    elif kind.name == "hardswish":
        steep = torch.where(given >= 3, 1.0, torch.where(given <= -3, 0.0, given / 3 + 0.5))
    elif kind.name == "softplus":
        return torch.sigmoid(given)
    else:  # elu, celu, selu: 1 above zero, exponential below
        return torch.exp(given.clamp(max=0))
    return steep.abs() / _STEEPEST[kind.name]
