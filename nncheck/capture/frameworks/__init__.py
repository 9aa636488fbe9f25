"""Training loops that a library runs for the script: they are asked through the library's own objects.

A library's loop does much beside training: it logs, draws bars and writes checkpoints, in code that is not the user's. So its own
training step is called, with its loggers and callbacks put aside. A library is only looked at if the script imported it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nncheck.capture.frameworks.library import Library, Watched

if TYPE_CHECKING:
    from nncheck.capture.script import Script
    from nncheck.capture.watcher import Watcher


def library_at_work(script: Script) -> Library | None:
    """The library whose trainer runs the loop that the script stands in; None if the loop is written out."""
    package, trainer = _trainer(script)
    if package == "transformers":
        from nncheck.capture.frameworks.huggingface import huggingface_at_work

        return huggingface_at_work(script, trainer)
    if package:
        from nncheck.capture.frameworks.lightning import lightning_at_work

        return lightning_at_work(script, trainer)
    return None


def keep_short(script: Script, watcher: Watcher) -> Watched | None:
    """Have the library that runs the loop end its epochs early, and tell of their ends; None if the loop is written out."""
    package, trainer = _trainer(script)
    if package == "transformers":
        from nncheck.capture.frameworks.huggingface_onward import keep_huggingface_short

        return keep_huggingface_short(script, trainer, watcher)
    if package:
        from nncheck.capture.frameworks.lightning_onward import keep_lightning_short

        return keep_lightning_short(trainer, watcher)
    return None


def _trainer(script: Script) -> tuple[str, Any]:
    """The package of the trainer among the objects whose methods the script stands in, and the trainer."""
    for stood in script.record.step:
        owner = stood.names.get("self")
        for name, package in ((base.__name__, base.__module__.partition(".")[0]) for base in type(owner).__mro__):
            if name == "Trainer" and package in ("lightning", "pytorch_lightning", "transformers"):
                return package, owner
    return "", None


def accelerate_state(script: Script) -> list[Any]:
    """How far each of the script's Accelerators has counted: a loop that accumulates goes by it."""
    module = sys.modules.get("accelerate")
    if not isinstance(module, ModuleType):
        return []
    found: dict[int, Any] = {}
    for stood in script.record.step:
        for names in (stood.names, stood.frame.f_globals):
            found |= {id(value): value for value in names.values() if type(value) is module.Accelerator}
    return [part for one in found.values() for part in (vars(one), vars(one.gradient_state))]


def plain_loader(loader: Any) -> Any:
    """The user's DataLoader inside one that only moves and prefetches its batches."""
    return getattr(loader, "base_dataloader", loader)


__all__ = ["Library", "Watched", "accelerate_state", "keep_short", "library_at_work", "plain_loader"]
