"""`Trainer.train` of transformers, going on for real in the copy: a callback of its own kind keeps its epochs short."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nncheck.capture.frameworks.library import Watched

if TYPE_CHECKING:
    from nncheck.capture.onward import Watcher
    from nncheck.capture.script import Script


def keep_huggingface_short(script: Script, trainer: Any, watcher: Watcher) -> Watched | None:
    """None if the trainer has not asked a loader for its batches."""
    last = next(reversed(script.record.requests.values()), None)
    if last is None or not hasattr(trainer, "callback_handler"):
        return None
    every = trainer.args.gradient_accumulation_steps
    steps = max(1, watcher.length_of(every) // every)
    trainer.state.eval_steps = min(trainer.state.eval_steps, steps)
    trainer.callback_handler.callbacks.insert(0, _teller(trainer, last.loader, steps, watcher))
    told = _Evaluating(trainer)
    return Watched(
        loader=last.loader,
        validating=lambda: told.now,
        metrics=dict,
        held={"self": trainer, "model": trainer.model},
    )


def _teller(trainer: Any, loader: Any, steps: int, watcher: Watcher) -> Any:
    """A callback that ends an epoch after so many steps, and tells of it: the trainer counts, and never asks for one batch more."""
    done = 0

    def began(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        nonlocal done
        done = 0

    def stepped(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        nonlocal done
        done += 1
        if done >= steps:
            control.should_epoch_stop = True
            watcher.over(loader)

    def ended(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        watcher.over(loader)

    base: Any = sys.modules["transformers"].TrainerCallback
    return type("Teller", (base,), {"on_epoch_begin": began, "on_step_end": stepped, "on_epoch_end": ended})()


class _Evaluating:
    """Whether the trainer evaluates on the data it was given for that; those that a call of the user's names have another use."""

    def __init__(self, trainer: Any) -> None:
        self.now = False
        self._trainer, self._evaluate = trainer, trainer.evaluate
        trainer.evaluate = self._run

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("eval_dataset")
        own = given is None and not isinstance(self._trainer.eval_dataset, dict)
        before, self.now = self.now, own
        try:
            return self._evaluate(*args, **kwargs)
        finally:
            self.now = before
