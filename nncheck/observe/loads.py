"""Weights that the user's code loads while the set-up is made: how many fitted, and whether they are still there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nncheck.observe.source import calling_place
from nncheck.verdict import Place

# Of each tensor so many numbers are kept, to compare them with what the model holds later.
SAMPLED = 64


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One call of `load_state_dict`: tensors given, those of them that the module has in this shape, and where."""

    given: int
    matched: int
    place: Place
    samples: dict[str, Tensor] = field(default_factory=dict)


_LOADS: WeakKeyDictionary[nn.Module, Loaded] = WeakKeyDictionary()


@contextmanager
def noting_loads() -> Iterator[None]:
    """Inside: what modules load is noted, the last call of each."""
    original = nn.Module.load_state_dict

    def load(module: nn.Module, state_dict: Any, *arguments: Any, **options: Any) -> Any:
        result = original(module, state_dict, *arguments, **options)
        own = module.state_dict()
        tensors = {name: t for name, t in state_dict.items() if isinstance(t, Tensor)}
        fitting = [name for name, t in tensors.items() if name in own and own[name].shape == t.shape]
        _LOADS[module] = Loaded(
            given=len(tensors),
            matched=len(fitting),
            place=calling_place("load_state_dict"),
            samples={n: _sample(tensors[n]) for n in fitting if tensors[n].ndim > 1 and tensors[n].is_floating_point()},
        )
        return result

    nn.Module.load_state_dict = load  # type: ignore[method-assign, assignment]  # in torch's place for the while
    try:
        yield
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]  # as it was


def loads_of(model: nn.Module) -> Iterator[tuple[str, nn.Module, Loaded]]:
    """The noted loads of a model and of the modules in it, by name."""
    for name, module in model.named_modules():
        if module in _LOADS:
            yield name, module, _LOADS[module]


def likeness(module: nn.Module, loaded: Loaded) -> float:
    """The correlation of what was loaded with what the module holds now; NaN if that is nothing."""
    own = module.state_dict()
    pairs = [(then, _sample(own[name])) for name, then in loaded.samples.items() if name in own]
    pairs = [(a, b) for a, b in pairs if a.shape == b.shape]
    if not pairs:
        return float("nan")
    a, b = (torch.cat([(t - t.mean()) / t.std().clamp_min(1e-12) for t in side]) for side in zip(*pairs, strict=True))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _sample(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten()[:SAMPLED].double().cpu()
