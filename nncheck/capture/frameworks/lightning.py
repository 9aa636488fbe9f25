"""Lightning's `Trainer.fit`: one batch at a time goes through its own epoch loop, with its loggers and callbacks put aside."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from nncheck.capture.frameworks.library import Kept, Library
from nncheck.lab.interception import Patches
from nncheck.observe.source import is_users, line_of, shown

if TYPE_CHECKING:
    from nncheck.capture.script import Script

_PACKAGES = ("lightning", "pytorch_lightning")


class LightningLoop:
    """`Trainer.fit`, one batch an iteration."""

    def __init__(self, script: Script, trainer: Any, batch: Any) -> None:
        self.where = f"Lightning's own step{_called(script)}"
        self._script, self._trainer, self._batch = script, trainer, batch
        self.updates = _updates(trainer)
        loop = trainer.fit_loop.epoch_loop
        parts = [loop, loop.automatic_optimization, loop.manual_optimization]
        self._kept = Kept([*parts, *(counter for part in parts for counter in _counters(part))])
        self._aside = _aside(trainer)

    def begin(self) -> Iterator[None]:
        """The first epoch; it has no end."""
        self.reset()
        return self._run()

    def reset(self) -> None:
        """The progress of the run as it was when the script stopped."""
        self._kept.put_back()

    def _run(self) -> Iterator[None]:
        trainer = self._trainer
        loop = trainer.fit_loop.epoch_loop
        every = trainer.accumulate_grad_batches
        # An epoch's last batch ends an accumulation early and steps the schedules of epochs: it is never reached, if it can be.
        end = (trainer.num_training_batches - 1) // every * every if math.isfinite(trainer.num_training_batches) else 0
        length = trainer.estimated_stepping_batches
        ready = math.inf
        while True:
            if ready >= (end or trainer.num_training_batches):
                _counted_anew(loop.batch_progress)
                ready = 0
            for state in self._script.random.values():
                state.restore()
            batch = self._batch if self._script.handed is None else self._script.handed
            with _put_aside(trainer, *self._aside, over=loop.global_step >= length):
                loop.advance(_Handing(batch))
            ready = loop.batch_progress.current.ready
            yield


class _Handing:
    """What Lightning takes its batches from: gives the one it is made with."""

    done = False

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __next__(self) -> tuple[Any, int, int]:
        return self._batch, 0, 0


def lightning_at_work(script: Script, trainer: Any) -> Library | None:
    """What the trainer holds; None if it is not fitting, or its module takes its batches itself."""
    advance = [s for s in script.record.step if s.frame.f_code.co_name == "advance" and "data_fetcher" in s.names]
    if not advance or advance[0].names.get("dataloader_iter") is not None:
        return None
    _untoggle(trainer.lightning_module)
    bar = trainer.progress_bar_callback
    if bar is not None:  # it may draw in a thread of its own
        bar.on_exception(trainer, trainer.lightning_module, KeyboardInterrupt())
    record = script.record
    moved = advance[0].names.get("batch")
    given = trainer.train_dataloader
    own = id(given) in record.requests
    # Of a loader without a length it fetches one batch ahead: then the batch is the one before the last.
    raw = [record.requests[id(given)].batch, record.requests[id(given)].before] if own else []
    tried = [batch for batch in (*raw, moved) if batch is not None]
    return Library(
        name="Lightning",
        loop=LightningLoop(script, trainer, tried[0]),
        batches=tried,
        state=[trainer.lightning_module, *trainer.optimizers, *(c.scheduler for c in trainer.lr_scheduler_configs)],
        train_loader=given if own else _Batches(trainer.fit_loop._combined_loader),
        val_loader=_validation(trainer),
        epochs=_epochs(trainer),
        intervals={id(c.scheduler): c.interval for c in trainer.lr_scheduler_configs if c.frequency == 1},
        folders=[str(logger.log_dir) for logger in trainer.loggers if getattr(logger, "log_dir", None)],
    )


class _Batches:
    """The batches of several loaders at once, as the training step is given them."""

    def __init__(self, combined: Any) -> None:
        self._combined = combined

    def __iter__(self) -> Iterator[Any]:
        return (batch for batch, _, _ in self._combined)

    def __len__(self) -> int:
        return len(self._combined)


def _validation(trainer: Any) -> Any:
    """The first of the loaders that it validates on."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    if not trainer.enable_validation:
        return None
    loop.setup_data()
    found = trainer.val_dataloaders
    while isinstance(found, (list, tuple, dict)):
        found = next(iter(found.values() if isinstance(found, dict) else found), None)
    return found


def _epochs(trainer: Any) -> int | None:
    """How many epochs the run is to have; None for a trial run, or one that is counted in steps or time."""
    counted = trainer.max_epochs is not None and trainer.max_epochs > 0
    return int(trainer.max_epochs) if counted and trainer.max_steps == -1 and not trainer.fast_dev_run else None


def _updates(trainer: Any) -> int | None:
    """How many steps the run is to have."""
    updates = trainer.estimated_stepping_batches
    return int(updates) if math.isfinite(updates) and updates > 0 and not trainer.fast_dev_run else None


def _counters(part: Any) -> list[Any]:
    """The records of progress that an object holds, and those inside them."""
    found = [value for value in vars(part).values() if dataclasses.is_dataclass(value)]
    return [*found, *(inner for value in found for inner in _counters(value))]


def _counted_anew(progress: Any) -> None:
    for name in vars(progress.current):
        setattr(progress.current, name, 0)


def _aside(trainer: Any) -> tuple[list[Any], list[Any]]:
    """Loggers that write nothing, as many as there are, and the callbacks of the user's own."""
    package = sys.modules[type(trainer.lightning_module.trainer.strategy).__module__.partition(".")[0]]
    root = package.pytorch if hasattr(package, "pytorch") else package
    silent = [root.loggers.logger.DummyLogger() for _ in trainer.loggers]
    return silent, [callback for callback in trainer.callbacks if _is_own(callback)]


def _is_own(callback: Any) -> bool:
    """Whether a callback does only what the user wrote: a library's logs, saves and draws, and so does what is derived from it."""
    bases = [base for base in type(callback).__mro__ if base.__module__.partition(".")[0] in _PACKAGES]
    return all(base.__name__ in ("Callback", "Hook") for base in bases)


@contextmanager
def _put_aside(trainer: Any, loggers: list[Any], callbacks: list[Any], *, over: bool) -> Iterator[None]:
    """Inside: only what trains is done. `over`: the run would have ended, and its schedules with it."""
    patches = Patches()
    if over:
        patches.put(trainer.fit_loop.epoch_loop, "update_lr_schedulers", _nothing)
    for optimizer in trainer.optimizers:
        if type(optimizer).__module__.startswith("torch.optim.") and _optional_closure(optimizer):
            patches.put(optimizer, "step", partial(_step, optimizer.step))
    patches.put(trainer, "_loggers", loggers)
    patches.put(trainer, "callbacks", callbacks)
    for name in ("log", "log_dict"):
        patches.put(trainer.lightning_module, name, _nothing)
    try:
        yield
    finally:
        patches.take_back()
        _untoggle(trainer.lightning_module)


def _untoggle(module: Any) -> None:
    """What `toggle_optimizer` froze for a part of the step that was left in its middle."""
    for parameter, required in module._param_requires_grad_state.items():
        parameter.requires_grad = required
    module._param_requires_grad_state = {}


def _optional_closure(optimizer: Any) -> bool:
    parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
    return parameter is not None and parameter.default is None


def _step(step: Callable[..., Any], closure: Callable[[], Any] | None = None, **options: Any) -> Any:
    """Lightning has the loss computed inside of every optimizer's step; those of torch do that first, if they are asked to."""
    if closure is None:
        return step(**options)
    with torch.enable_grad():
        loss = closure()
    step(**options)
    return loss


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _called(script: Script) -> str:
    """Where the user's file calls the trainer."""
    for stood in script.record.step:
        if is_users(stood.frame.f_code.co_filename) and "fit" in (
            line_of(stood.frame.f_code.co_filename, stood.line) or ""
        ):
            return f" ({shown(stood.frame.f_code.co_filename)}:{stood.line})"
    return ""
