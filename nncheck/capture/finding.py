"""Which objects of a running script are the parts of its set-up: by what they did, and only then by their names."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from nncheck.capture.record import Record
from nncheck.lab.beside import is_gradient
from nncheck.lab.sandbox import unwrap
from nncheck.observe.source import is_users

# Interface: the names under which a file holds these parts.
VALIDATION = (
    "val_loader", "valid_loader", "validation_loader", "val_dataloader", "valid_dataloader", "eval_dataloader", "valloader",
    "val_dl", "valid_dl", "dev_loader", "loader_val", "data_loader_val", "test_loader", "testloader", "test_dataloader",
)  # fmt: skip
EPOCHS = (
    "epochs",
    "num_epochs",
    "max_epochs",
    "n_epochs",
    "nepochs",
    "num_train_epochs",
    "EPOCHS",
    "NUM_EPOCHS",
    "N_EPOCHS",
)


class Together(nn.Module):
    """Several models that one optimizer trains, under the names the script gives them."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def find_model(record: Record, optimizer: Any) -> tuple[nn.Module | None, str]:
    """The module that holds what the optimizer trains, and its name in the script.

    Modules that the script called itself come first; then any module that is alive, the smallest that holds most of it. If no
    gradient reached what the optimizer trains, it is the called module that gradients did reach: the optimizer's was replaced.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    whole = _best(record.roots, held)
    if whole is None and all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
        reached = {id(p) for root in record.roots for p in root.parameters() if p.grad is not None}
        ran = _best(record.roots, reached)
        if ran is not None:
            return ran, _name_of(record, ran)
    if whole is None or _covered(whole, held) < len(held):
        alive = [m for m in gc.get_objects() if issubclass(type(m), nn.Module)]  # not `__class__`, which may be code
        wider = _best(alive, held)
        if wider is not None and (whole is None or _covered(wider, held) > _covered(whole, held)):
            whole = wider
    if whole is None:
        return None, ""
    if _covered(whole, held) < len(held):
        parts = [m for m in record.roots if _covered(m, held)]
        names = {id(m): n for n, m in _bindings(record, nn.Module)}
        named = {names.get(id(m), f"part_{i}").replace(".", "_"): m for i, m in enumerate(parts)}
        if len(named) > 1 and sum(_covered(m, held) for m in parts) > _covered(whole, held):
            return Together(named), " + ".join(named)
    return whole, _name_of(record, whole)


def find_optimizer(record: Record) -> Any:
    """The optimizer that the script steps: the first to step, or the one whose own step works out the gradients for that.

    Gradients that hang on the parameters beside `.grad` tell of one that does; a wrapper that only hands on is left out.
    """
    beside = any(
        is_gradient(value, tensor) and begun.get(name) is not value
        for tensor, begun in record.attributes
        for name, value in vars(tensor).items()
    )
    steppers = [s.names.get("self") for s in record.step if s.frame.f_code.co_name == "step"] if beside else []
    return next((s for s in reversed(steppers) if isinstance(s, Optimizer)), record.optimizer)


def find_others(record: Record, optimizer: Any) -> list[Any]:
    """Optimizers of other parameters, in the order in which they were made; of those that share some, the first."""
    alive = {id(o): o for o in gc.get_objects() if id(o) in record.made and issubclass(type(o), Optimizer)}
    found, taken = [], held_by(optimizer)
    for other in (alive[key] for key in record.made if key in alive):
        ids = held_by(other)
        if ids and not ids & taken:
            found.append(other)
            taken |= ids
    return found


def find_stepping(record: Record) -> list[Any]:
    """The optimizer that steps first, and those that may be followed beside it."""
    return [record.optimizer, *find_others(record, record.optimizer)]


def held_by(optimizer: Any) -> frozenset[int]:
    """The ids of the parameters that an optimizer trains."""
    return frozenset(id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"])


def _covered(module: nn.Module, held: set[int]) -> int:
    return sum(id(p) in held for p in module.parameters())


def _best(modules: list[nn.Module], held: set[int]) -> nn.Module | None:
    """Of those that hold most of it, the smallest; of a wrapper and what it wraps, the inner one."""
    found = [
        (_covered(m, held), -sum(1 for _ in m.parameters()), -sum(1 for _ in m.modules()), i)
        for i, m in enumerate(modules)
    ]
    best = max((f for f in found if f[0]), default=None)
    return None if best is None else unwrap(modules[best[3]])


def find_schedulers(optimizer: Any) -> list[Any]:
    """Schedules of this optimizer that are alive, those inside others left out."""
    found = [
        s for s in gc.get_objects()
        if issubclass(type(s), (LRScheduler, ReduceLROnPlateau)) and _drives(getattr(s, "optimizer", None), optimizer)
    ]  # fmt: skip
    inner = {id(i) for s in found for i in getattr(s, "_schedulers", ())}
    return [s for s in found if id(s) not in inner]


def _drives(held: Any, optimizer: Optimizer) -> bool:
    """Whether a schedule's optimizer is this one, or a library's that stands for it."""
    return held is optimizer or getattr(held, "param_groups", None) is optimizer.param_groups


def find_validation(record: Record, train: Any) -> tuple[Any, str]:
    """A loader that the script holds under a name for validation, and that name."""
    named = dict(reversed([*_bindings(record, DataLoader)]))
    short = {name.rpartition(".")[2].lower(): (name, loader) for name, loader in named.items()}
    for name in VALIDATION:
        if name in short and short[name][1] is not train:
            return short[name][1], short[name][0]
    return None, ""


def find_state(record: Record) -> list[Any]:
    """What else the loop may change besides the parts of one set-up: every model, optimizer, schedule and scaler in sight."""
    kinds = (nn.Module, Optimizer, LRScheduler, ReduceLROnPlateau, torch.amp.GradScaler)
    found = {id(value): value for _, value in _everything(record) if isinstance(value, kinds)}
    found |= {id(root): root for root in record.roots}
    return list(found.values())


def find_epochs(record: Record) -> int | None:
    """How many epochs the script means to run, if a name says so."""
    for name, value in _everything(record):
        if name.rpartition(".")[2] in EPOCHS and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _name_of(record: Record, wanted: Any) -> str:
    return next((name for name, value in _everything(record) if value is wanted and name != "self"), "")


def _bindings(record: Record, kind: type) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in _everything(record) if isinstance(value, kind))


def _everything(record: Record) -> Iterator[tuple[str, Any]]:
    """Names and values of the user's frames at the first step, innermost first, and one level into objects of the user's."""
    seen: set[int] = set()
    for stood in record.step:
        frame = stood.frame
        if not is_users(frame.f_code.co_filename):
            continue
        for scope in (stood.names, frame.f_globals):
            if id(scope) in seen:
                continue
            seen.add(id(scope))
            for name, value in list(scope.items()):
                if name.startswith("__"):
                    continue
                yield name, value
                inside = _attributes(value)
                for inner, held in inside.items():
                    yield f"{name}.{inner}", held
                    if isinstance(held, argparse.Namespace):
                        yield from ((f"{name}.{inner}.{option}", value) for option, value in vars(held).items())


def _attributes(value: Any) -> Mapping[str, Any]:
    if isinstance(value, argparse.Namespace):
        return vars(value)
    if isinstance(value, dict):  # past the class's own `items`, which may import half a library
        return {k: v for k, v in dict.items(value) if isinstance(k, str)}
    if isinstance(value, Mapping):
        try:
            return {k: v for k, v in value.items() if isinstance(k, str)}
        except Exception:  # noqa: BLE001  # a library's may fail when it is read
            return {}
    if isinstance(value, (nn.Module, Optimizer, DataLoader, type)) or not hasattr(value, "__dict__"):
        return {}
    return dict(vars(value)) if type(value).__module__ not in ("builtins", "types") and not callable(value) else {}
