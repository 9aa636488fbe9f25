"""Who holds a tensor: finds the attribute, list, dict or closure in which a tensor lives that no module registered."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.observe.graph import leaves
from nncheck.observe.source import layer_place, place_at
from nncheck.verdict import Place

# Deep enough for a list in a dict in an object in a closure; a limit because users' objects may hang together endlessly.
_DEPTH = 8


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Where a tensor was found.

    path: as a person would write it, e.g. `layers[0].weight`. how: "list", "dict", "tuple", "tensor", "computed" (made from
    a parameter, no parameter itself), "loss", "closure" or "object". training: the mode of the module that owns it.
    """

    path: str
    how: str
    training: bool
    place: Place | None


def find_holders(roots: Mapping[str, Any], wanted: Iterable[int], model: nn.Module) -> dict[int, Holder]:
    """Holders of the tensors with the ids `wanted`, searched from `roots` (label -> object), the nearest first."""
    search = _Search(set(wanted), model)
    for label, root in roots.items():
        search.visit(root, label, "loss" if label == "loss_fn" else "object", True, None, 0)
    return search.found


class _Search:
    def __init__(self, wanted: set[int], model: nn.Module) -> None:
        self.wanted = wanted
        self.model = model
        self.names = {id(m): n for n, m in model.named_modules()}
        self.found: dict[int, Holder] = {}
        self.seen: dict[int, Any] = {}

    def visit(self, value: Any, path: str, how: str, training: bool, place: Place | None, depth: int) -> None:
        if depth > _DEPTH or value is None or isinstance(value, (bool, int, float, str, bytes, type, types.ModuleType)):
            return
        if isinstance(value, Tensor):
            self._tensor(value, path, how, training, place)
            return
        if id(value) in self.seen:
            return
        self.seen[id(value)] = value
        if isinstance(value, nn.Module):
            self._module(value, path, how, place, depth)
        elif isinstance(value, Mapping):
            for key, item in list(value.items()):
                self.visit(item, f"{path}[{key!r}]", _inside(how, "dict"), training, place, depth + 1)
        elif isinstance(value, (list, tuple, set, frozenset)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            for index, item in enumerate(value):
                self.visit(item, f"{path}[{index}]", _inside(how, kind), training, place, depth + 1)
        elif isinstance(value, functools.partial):
            for item in (value.func, value.args, value.keywords):
                self.visit(item, path, how, training, place, depth + 1)
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__, path, how, training, place, depth + 1)
            self.visit(value.__func__, path, how, training, place, depth + 1)
        elif isinstance(value, types.FunctionType):
            self._function(value, training, depth)
        elif hasattr(value, "__dict__") and not isinstance(value, torch.optim.Optimizer):
            for name, item in list(vars(value).items()):
                self.visit(item, f"{path}.{name}", how, training, place, depth + 1)

    def _tensor(self, tensor: Tensor, path: str, how: str, training: bool, place: Place | None) -> None:
        if id(tensor) in self.wanted:
            self.found.setdefault(id(tensor), Holder(path=path, how=how, training=training, place=place))
        elif tensor.grad_fn is not None:
            for key in leaves(tensor).keys() & self.wanted:
                self.found.setdefault(key, Holder(path=path, how="computed", training=training, place=place))

    def _module(self, module: nn.Module, path: str, how: str, place: Place | None, depth: int) -> None:
        own = id(module) in self.names
        prefix = self.names[id(module)] if own else path
        for name, parameter in module.named_parameters(recurse=False):
            if not own:
                self._tensor(parameter, _join(path, name), how, module.training, place)
        for name, child in module.named_children():
            self.visit(child, _join(prefix, name), how, module.training, place, depth if own else depth + 1)
        for name, item in list(vars(module).items()):
            if name.startswith("_") and name in _TORCH_OWN:
                continue
            where = _join(prefix, name)
            line = layer_place(self.model, where) if own else place
            self.visit(
                item, where, "tensor" if own and isinstance(item, Tensor) else how, module.training, line, depth + 1
            )

    def _function(self, function: types.FunctionType, training: bool, depth: int) -> None:
        place = place_at(function.__name__, function.__code__.co_filename, function.__code__.co_firstlineno)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self.visit(cell.cell_contents, name, "closure", training, place, depth + 1)
            except ValueError:  # an empty cell
                continue
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                self.visit(function.__globals__[name], name, "closure", training, place, depth + 1)


_TORCH_OWN = frozenset(vars(nn.Module()))


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _inside(how: str, kind: str) -> str:
    return kind if how == "object" else how


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
