"""Events between processes as bytes that can be read without the user's modules, and without torch."""

from __future__ import annotations

import io
import pickle
from types import BuiltinFunctionType, FunctionType
from typing import Any

_PLAIN: tuple[type[Any], ...] = (str, bytes, int, float, tuple, list, dict)


class _Pickler(pickle.Pickler):
    """Writes what is derived from a plain type as that type: torch's version is a string, a NumPy number a float."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, (type, FunctionType, BuiltinFunctionType)) or kind.__module__.split(".")[0] == "nncheck":
            return NotImplemented
        for plain in _PLAIN:
            if kind is plain:
                return NotImplemented
            if isinstance(value, plain):
                return plain, (plain(value),)
        if kind.__module__ == "builtins":
            return NotImplemented
        try:
            return float, (float(value),)
        except (TypeError, ValueError, ArithmeticError):
            return str, (str(value),)


def packed(event: tuple[Any, ...]) -> bytes:
    """An event to send."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(event)
    return buffer.getvalue()


def unpacked(data: bytes) -> tuple[Any, ...]:
    """An event that was sent."""
    event: tuple[Any, ...] = pickle.loads(data)
    return event
