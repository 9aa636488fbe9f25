"""State that a module keeps, and where: buffers, and what lies in plain attributes, lists, helpers and unregistered layers."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.observe.source import is_users

# A tensor larger than this is not copied to see whether it changes.
COMPARED_NUMBERS = 1 << 24
_OWN = frozenset(nn.Module().__dict__)
# An optimizer's own state, which its state dict holds.
_SAVED = frozenset({"state", "param_groups", "defaults"})


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One thing that is kept: a copy of a tensor, or a number. buffer: it is a registered buffer."""

    value: Any
    buffer: bool


def kept_state(owner: Any, *, buffers: bool = True) -> dict[str, Kept]:
    """What a module (or optimizer, or loss) keeps beside its parameters, by name, copied.

    buffers: persistent buffers too; else only what a state dict leaves out.
    """
    found: dict[str, Kept] = {}
    if not isinstance(owner, nn.Module):
        for name, value in _plain(owner, registered=set()):
            found[name] = Kept(value=_copied(value), buffer=False)
        return found
    registered = {id(t) for t in (*owner.parameters(), *owner.buffers())}
    for prefix, module in owner.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, buffer in module._buffers.items():
            persistent = name not in module._non_persistent_buffers_set
            if buffer is not None and buffer.numel() <= COMPARED_NUMBERS and (buffers or not persistent):
                found[dot + name] = Kept(value=buffer.detach().clone(), buffer=True)
        for name, value in _plain(module, registered=registered):
            found[dot + name] = Kept(value=_copied(value), buffer=False)
    return found


def plain_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The live tensors that a model keeps outside its state dict, by name."""
    registered = {id(t) for t in (*module.parameters(), *module.buffers())}
    for prefix, inner in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, buffer in inner._buffers.items():
            if buffer is not None and name in inner._non_persistent_buffers_set:
                yield dot + name, buffer
        for name, value in _plain(inner, registered=registered):
            if isinstance(value, Tensor):
                yield dot + name, value


def differing(one: Mapping[str, Kept], other: Mapping[str, Kept]) -> Iterator[tuple[str, Kept, Kept]]:
    """What both have, with another value."""
    for name, a in one.items():
        b = other.get(name)
        if b is not None and not _same(a.value, b.value):
            yield name, a, b


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    return bool(a == b) or (a != a and b != b)


def _plain(owner: Any, *, registered: set[int]) -> Iterator[tuple[str, Any]]:
    """Tensors and numbers in the attributes of an object, that are neither parameters nor buffers."""
    skipped = _OWN if isinstance(owner, nn.Module) else _SAVED
    for name, value in list(vars(owner).items()) if hasattr(owner, "__dict__") else []:
        if name in skipped or name in ("trainer", "_trainer", "_fabric"):
            continue
        for inner, item in _inside(value, depth=2):
            small = not isinstance(item, Tensor) or (item.numel() <= COMPARED_NUMBERS and item.layout is torch.strided)
            if small and id(item) not in registered:
                yield name + inner, item


def _inside(value: Any, *, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (bool, str, bytes, type)) or value is None:
        return
    if isinstance(value, (int, float, Tensor)):
        yield "", value
    elif isinstance(value, nn.Module):  # in a list, or of another model: a registered one is none of our attributes
        for name, tensor in (*value.named_parameters(), *value.named_buffers()):
            yield f".{name}", tensor
    elif isinstance(value, (list, tuple, deque)):
        if depth:
            for index, item in enumerate(value):
                for name, inner in _inside(item, depth=depth - 1):
                    yield f"[{index}]{name}", inner
    elif isinstance(value, dict):
        if depth:
            for key, item in value.items():
                for name, inner in _inside(item, depth=depth - 1):
                    yield f"[{key!r}]{name}", inner
    elif depth and hasattr(value, "__dict__") and _written_by_user(type(value)):
        for key, item in vars(value).items():
            for name, inner in _inside(item, depth=depth - 1):
                yield f".{key}{name}", inner


def _written_by_user(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and is_users(file)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
