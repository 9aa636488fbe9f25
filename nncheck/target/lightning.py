"""A LightningModule as a set-up: told by the names in its MRO, so that neither `lightning` nor `pytorch_lightning` is imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nncheck.errors import TargetError


def is_lightning_module(value: Any) -> bool:
    """Whether a model is a LightningModule of either package."""
    return any(base.__name__ == "LightningModule" for base in type(value).__mro__)


def is_lightning_data(value: Any) -> bool:
    """Whether a value is a LightningDataModule of either package."""
    return any(base.__name__ == "LightningDataModule" for base in type(value).__mro__)


class StandInTrainer:
    """What `self.trainer` answers while no Trainer is there: the first step of the first epoch on one device."""

    def __init__(self, *, epochs: int | None = None, batches: int | None = None) -> None:
        self.max_epochs = epochs or 1
        self.max_steps = -1
        self.num_training_batches = batches or 1
        self.estimated_stepping_batches = self.max_epochs * self.num_training_batches
        self.current_epoch = self.global_step = self.global_rank = self.local_rank = 0
        self.world_size = self.num_devices = self.accumulate_grad_batches = 1
        self.training, self.sanity_checking, self.validating = True, False, False
        self.is_global_zero, self.is_last_batch, self.barebones = True, False, False
        self.loggers: list[Any] = []
        self.logger = None
        self.callback_metrics: dict[str, Any] = {}
        self.logged_metrics: dict[str, Any] = {}


@contextmanager
def _attached(model: Any, trainer: StandInTrainer) -> Iterator[None]:
    """`self.trainer` answers and `self.log` is silent inside; afterwards the module is as before."""
    attributes = model.__dict__
    missing = object()
    before = {name: attributes.get(name, missing) for name in ("_trainer", "log", "log_dict")}
    if attributes.get("_trainer") is None:
        attributes["_trainer"] = trainer
        attributes["log"] = attributes["log_dict"] = _nothing
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                attributes.pop(name, None)
            else:
                attributes[name] = value


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _overridden(model: Any, method: str) -> bool:
    """Whether the user wrote the method, i.e. it does not come from the framework's own classes."""
    for base in type(model).__mro__:
        if method in vars(base):
            return base.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning")
    return False


def training_step(model: Any, trainer: StandInTrainer) -> Callable[..., Any]:
    """The module's own `training_step` as a plain function. Raises TargetError if its optimization is manual."""
    if not getattr(model, "automatic_optimization", True):
        raise TargetError(
            f"{type(model).__name__} optimizes by hand (automatic_optimization = False), so its training_step gives no loss",
            help="give a `training_step(model, batch)` that returns the loss",
        )
    takes = [
        p.name
        for p in inspect.signature(model.training_step).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]

    def step(model: Any, batch: Any, batch_idx: int) -> Any:
        with _attached(model, trainer):
            return model.training_step(batch, batch_idx) if len(takes) > 1 else model.training_step(batch)

    return step


def loader(model: Any, kind: str, trainer: StandInTrainer) -> Any:
    """The module's own `train_dataloader()` or `val_dataloader()`; None if it has none."""
    if not _overridden(model, kind):
        return None
    with _attached(model, trainer):
        for prepare in ("prepare_data", "setup"):
            if _overridden(model, prepare):
                getattr(model, prepare)(*(("fit",) if prepare == "setup" else ()))
        found = getattr(model, kind)()
    if isinstance(found, (list, tuple)) and found and all(hasattr(item, "dataset") for item in found):
        return found[0]
    return found


def data_loaders(data: Any) -> tuple[Any, Any]:
    """Training and validation loader of a LightningDataModule."""
    data.prepare_data()
    data.setup("fit")
    validation = data.val_dataloader() if _overridden(data, "val_dataloader") else None
    return data.train_dataloader(), validation


def optimizers(model: Any, trainer: StandInTrainer) -> tuple[Any, Any, str | None]:
    """Optimizer, scheduler and its interval from `configure_optimizers()`, whichever of its six shapes that has."""
    if not _overridden(model, "configure_optimizers"):
        return None, None, None
    with _attached(model, trainer):
        return unpack_optimizers(model.configure_optimizers(), type(model).__name__)


def unpack_optimizers(returned: Any, owner: str) -> tuple[Any, Any, str | None]:
    """An optimizer, a list of them, two lists, a dict, several dicts, or None: (optimizer, scheduler, interval)."""
    if returned is None:
        return None, None, None
    if isinstance(returned, Mapping):
        scheduler, interval = _scheduler(returned.get("lr_scheduler"))
        return returned.get("optimizer"), scheduler, interval
    if isinstance(returned, (list, tuple)):
        if len(returned) == 2 and isinstance(returned[0], (list, tuple)):
            several, schedulers = list(returned[0]), list(returned[1] or [])
            scheduler, interval = _scheduler(schedulers[0] if schedulers else None)
            return _only(several, owner), scheduler, interval
        if all(isinstance(item, Mapping) for item in returned) and returned:
            return unpack_optimizers(_only(list(returned), owner), owner)
        return _only(list(returned), owner), None, None
    return returned, None, None


def _only(several: list[Any], owner: str) -> Any:
    if len(several) > 1:
        raise TargetError(
            f"{owner} has {len(several)} optimizers; one step of one optimizer is what nncheck can check",
            help="give a Recipe with the model, loss and optimizer of one of the steps",
        )
    return several[0] if several else None


def _scheduler(given: Any) -> tuple[Any, str | None]:
    if isinstance(given, Mapping):
        return given.get("scheduler"), str(given.get("interval", "epoch"))
    return given, None if given is None else "epoch"
