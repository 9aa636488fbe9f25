"""Parts without a usual name: the only model, the only loader, the only loss of a file."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from nncheck.target.lightning import is_lightning_data
from nncheck.target.names import DATA_SETS
from nncheck.target.search import Search, several


def only_model(search: Search) -> None:
    """Bind the only model that has parameters and is part of no other, or the only model class that needs no arguments."""
    from torch import nn

    held = vars(search.module)
    taken = {id(value) for part, value in search.parts.items() if part != "model"}
    instances = {
        id(value): name
        for name, value in reversed(held.items())
        if isinstance(value, nn.Module)
        and id(value) not in taken
        and not _is_loss(type(value))
        and any(True for _ in value.parameters())
    }
    inner = {id(m) for key in instances for m in held[instances[key]].modules() if id(m) != key}
    outer = {key: name for key, name in instances.items() if key not in inner}
    if len(outer) > 1:
        raise several("model", {name: held[name] for name in reversed(outer.values())}, search)
    if outer:
        name = next(iter(outer.values()))
        search.bind("model", name, held[name])
        return
    classes = {
        name: value
        for name, value in held.items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__ == search.module.__name__
        and not _is_loss(value)
        and not inspect.isabstract(value)
        and _needs_nothing(value, name, search)
    }
    used = {
        node.id
        for name in classes
        if name in search.reading.classes
        for node in ast.walk(search.reading.classes[name])
        if isinstance(node, ast.Name) and node.id != name
    }
    chosen = {name: value for name, value in classes.items() if name not in used}
    if len(chosen) > 1:
        raise several("model", chosen, search)
    if chosen:
        search.bind("model", *next(iter(chosen.items())))


def _needs_nothing(value: type, name: str, search: Search) -> bool:
    missing = [
        p.name
        for p in inspect.signature(value).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if missing:
        search.unusable.setdefault("model", []).append(f"{name} needs {', '.join(missing)}")
    return not missing


def _is_loss(kind: type) -> bool:
    return any(base.__name__.endswith("Loss") or base.__name__ == "_Loss" for base in kind.__mro__)


def only_loader(search: Search) -> None:
    """Bind the only DataLoader, the only LightningDataModule, or wrap a training set in one and say so."""
    from torch.utils.data import DataLoader, IterableDataset

    held = vars(search.module)
    taken = {id(value) for value in search.parts.values()}
    loaders = {id(v): n for n, v in reversed(held.items()) if isinstance(v, DataLoader) and id(v) not in taken}
    if len(loaders) > 1:
        raise several("train_loader", {n: held[n] for n in reversed(loaders.values())}, search)
    if loaders:
        name = next(iter(loaders.values()))
        search.bind("train_loader", name, held[name])
        return
    modules = {id(v): n for n, v in reversed(held.items()) if is_lightning_data(v)}
    if len(modules) == 1:
        name = next(iter(modules.values()))
        search.bind("train_loader", name, held[name])
        return
    for name in DATA_SETS:
        data: Any = held.get(name)
        if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, Mapping)):
            loader = DataLoader(data, batch_size=32, shuffle=True)
        elif isinstance(data, IterableDataset):
            loader = DataLoader(data, batch_size=32)
        else:
            continue
        search.bind("train_loader", name, loader)
        how = "batch_size=32" if isinstance(data, IterableDataset) else "batch_size=32, shuffle=True"
        search.notes.append(f"no train_loader: {name} is wrapped in DataLoader({how})")
        return


def only_loss(search: Search) -> None:
    """Bind the only instance whose class is called ...Loss. Raises TargetError if there are several and no training_step."""
    held = vars(search.module)
    model = search.parts.get("model")
    losses = {
        id(value): name
        for name, value in reversed(held.items())
        if type(value).__name__.endswith("Loss") and callable(value) and value is not model
    }
    if len(losses) > 1 and "training_step" not in search.parts:
        raise several("loss_fn", {name: held[name] for name in reversed(losses.values())}, search)
    if len(losses) == 1:
        name = next(iter(losses.values()))
        search.bind("loss_fn", name, held[name])
