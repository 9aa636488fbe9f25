"""`Trainer.fit` of Lightning, going on for real in the copy: its own limits end its epochs early, a callback tells of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nncheck.capture.frameworks.library import Watched
from nncheck.observe.source import is_users

if TYPE_CHECKING:
    from nncheck.capture.watcher import Watcher


def keep_lightning_short(trainer: Any, watcher: Watcher) -> Watched | None:
    """None if the module takes its batches itself: no limit holds it."""
    fit = trainer.fit_loop
    fetcher = fit._data_fetcher
    if not hasattr(fetcher, "length") or type(fetcher).__name__ == "_DataLoaderIterDataFetcher":
        return None
    loaders = fit._combined_loader.flattened
    most = watcher.length_of(trainer.accumulate_grad_batches)
    _limit(trainer, most)
    # What draws its bars in a thread of its own has lost that thread.
    bar = trainer.progress_bar_callback
    trainer.callbacks = [_teller(trainer, loaders, watcher), *(c for c in trainer.callbacks if c is not bar)]
    own = [callback for callback in trainer.callbacks if is_users(_file_of(callback))]
    return Watched(
        loader=loaders[0],
        micro=trainer.accumulate_grad_batches,
        validating=lambda: bool(trainer.validating),
        metrics=lambda: trainer.callback_metrics,
        scored=lambda: None,
        held=[trainer.lightning_module, *own],
    )


def _limit(trainer: Any, most: int) -> None:
    """Epochs of so many batches, each with its validation."""
    fit = trainer.fit_loop
    if fit.max_batches > most:
        fit.max_batches = most
        fit._combined_loader.limits = most
        fit._data_fetcher.length = most
    if trainer.val_check_batch is not None and not math.isinf(trainer.val_check_batch):
        trainer.val_check_batch = min(trainer.val_check_batch, fit.max_batches)
    if trainer.check_val_every_n_epoch is not None:
        trainer.check_val_every_n_epoch = 1


def _teller(trainer: Any, loaders: list[Any], watcher: Watcher) -> Any:
    """A callback that tells when a loader is done with: Lightning counts, and never asks for the batch after the last."""
    loop = trainer.fit_loop.epoch_loop

    def trained(*_: Any) -> None:
        if loop._num_ready_batches_reached():
            for loader in loaders:
                watcher.over(loader)

    def validated(*_: Any) -> None:
        for loader in loop.val_loop._combined_loader.flattened:
            watcher.over(loader)

    package = sys.modules[type(trainer.strategy).__module__.partition(".")[0]]
    root: Any = package.pytorch if hasattr(package, "pytorch") else package
    told: dict[str, Callable[..., None]] = {
        "on_train_batch_end": staticmethod(trained),
        "on_validation_end": staticmethod(validated),
    }
    return type("Teller", (root.callbacks.Callback,), told)()


def _file_of(value: Any) -> str:
    return str(getattr(sys.modules.get(type(value).__module__), "__file__", None) or "<none>")
