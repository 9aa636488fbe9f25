"""Layers that start equal because their class sets the seed each time one is made."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from nncheck.lab.sandbox import Sandbox
from nncheck.observe.source import is_users, place_at
from nncheck.registry import probe
from nncheck.verdict import Place

_SEEDS = frozenset({"manual_seed", "manual_seed_all", "seed_everything", "seed_all", "set_seed"})


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """A class of the user's that sets a seed, and layers of it with the same random weights bit for bit.

    names: of these layers. matrices, size: of each, the random ones. place: the line that sets the seed.
    """

    kind: str
    names: tuple[str, ...]
    matrices: int
    size: int
    place: Place


@dataclass(frozen=True, kw_only=True)
class SeededLayers:
    """Every such class. Layers that are copies of one another, as in `nn.TransformerEncoder`, are none: nothing sets a seed."""

    found: tuple[Seeded, ...]


@probe
def seeded_layers(sandbox: Sandbox) -> SeededLayers:
    """No pass of the model: its classes are read, and the weights of those that set a seed are compared."""
    by_kind: dict[type, list[tuple[str, nn.Module]]] = {}
    for name, module in sandbox.model.named_modules():
        by_kind.setdefault(type(module), []).append((name, module))
    found = []
    for kind, layers in by_kind.items():
        place = _seeding(kind) if len(layers) > 1 else None
        if place is None:
            continue
        weights = [_random(module) for _, module in layers]
        alike = [i for i, own in enumerate(weights) if own and any(_equal(own, weights[j]) for j in _others(i, layers))]
        if len(alike) > 1:
            first = weights[alike[0]]
            found.append(
                Seeded(
                    kind=kind.__name__,
                    names=tuple(layers[i][0] for i in alike),
                    matrices=len(first),
                    size=sum(t.numel() for t in first),
                    place=place,
                )
            )
    return SeededLayers(found=tuple(found))


def _others(index: int, layers: list[tuple[str, nn.Module]]) -> list[int]:
    return [other for other in range(len(layers)) if other != index]


def _random(module: nn.Module) -> list[Tensor]:
    """Its trainable matrices whose values differ: ones and zeros say nothing, and a frozen copy is meant."""
    found = [p.detach() for p in module.parameters() if p.requires_grad and p.ndim > 1 and p.layout is torch.strided]
    return [t for t in found if len(torch.unique(t.flatten()[:64])) > 2]


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    """Bit for bit, in tensors of their own: what is tied is the same on purpose."""
    return len(one) == len(other) and all(
        a.shape == b.shape and a.data_ptr() != b.data_ptr() and torch.equal(a, b)
        for a, b in zip(one, other, strict=True)
    )


@cache
def _seeding(kind: type) -> Place | None:
    """The line in a class of the user's that sets a seed for torch."""
    try:
        file = inspect.getsourcefile(kind)
        if file is None or not is_users(file):
            return None
        lines, start = inspect.getsourcelines(kind)
        tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)) if lines[0][:1].isspace() else "".join(lines))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _SEEDS:
                return place_at(kind.__name__, file, start + node.lineno - 1)
    return None
