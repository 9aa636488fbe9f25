"""The `Trainer` of transformers: its `training_step` on one batch at a time, then what its loop does at a step."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from nncheck.capture.frameworks.library import Kept, Library
from nncheck.lab.interception import Patches
from nncheck.observe.source import is_users

if TYPE_CHECKING:
    from nncheck.capture.script import Script


class TrainerLoop:
    """`Trainer.train`, one batch an iteration; where the loss is the user's, as many of them as it accumulates make a step."""

    def __init__(self, script: Script, trainer: Any, epoch: dict[str, Any]) -> None:
        self.where = "the Trainer's own step"
        self._script, self._trainer = script, trainer
        self.updates: int | None = trainer.state.max_steps
        self._model = epoch["model"]
        self._first, self._items = list(epoch["batch_samples"]), epoch["num_items_in_batch"]
        accelerator = trainer.accelerator
        self._kept = Kept([trainer, trainer.state, trainer.control, accelerator, accelerator.gradient_state])

    def begin(self) -> Iterator[None]:
        """The first step on; there is no end to it."""
        self.reset()
        return self._again() if self._script.random else self._run()

    def reset(self) -> None:
        """What the trainer counts as it was when the script stopped."""
        self._kept.put_back()

    def _again(self) -> Iterator[None]:
        """The first step as it was, on all of its batches."""
        trainer = self._trainer
        for state in self._script.random.values():
            state.restore()
        with _quiet(trainer):
            for batch in self._first:
                trainer.training_step(self._model, batch, self._items)
        yield

    def _run(self) -> Iterator[None]:
        trainer = self._trainer
        # How a library scales what it accumulates is its own affair; a loss of the user's may get that wrong.
        every, index = (trainer.args.gradient_accumulation_steps if self._own_loss() else 1), 0
        while True:
            index += 1
            steps = index % every == 0
            handed = self._script.handed
            batch = self._first[-1] if handed is None else handed
            with _quiet(trainer):
                # Each batch counts as much as the others: the trainer divides by the items of all that it accumulates.
                _, items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
                trainer.current_gradient_accumulation_steps = every
                trainer.accelerator.gradient_state._set_sync_gradients(steps)
                with nullcontext() if steps else trainer.accelerator.no_sync(model=self._model):
                    trainer.training_step(self._model, batch, None if items is None else items * every)
                if steps:
                    self._step()
            yield

    def _own_loss(self) -> bool:
        trainer = self._trainer
        functions = [trainer.training_step, trainer.compute_loss, trainer.compute_loss_func, trainer.model.forward]
        codes = [getattr(getattr(f, "__func__", f), "__code__", None) for f in functions]
        return any(code is not None and is_users(code.co_filename) for code in codes)

    def _step(self) -> None:
        trainer = self._trainer
        if trainer.args.max_grad_norm > 0:
            trainer._clip_grad_norm(self._model)
        trainer.optimizer.step()
        over = (
            trainer.state.global_step >= trainer.state.max_steps
        )  # the run would have ended, and its schedule with it
        if not over and not trainer.accelerator.optimizer_step_was_skipped and not _waits(trainer.lr_scheduler):
            trainer.lr_scheduler.step()
        self._model.zero_grad()
        trainer.state.global_step += 1


def huggingface_at_work(script: Script, trainer: Any) -> Library | None:
    """What the trainer holds; None if it stands outside of its own loop."""
    wanted = ("model", "batch_samples", "num_items_in_batch", "inputs")
    epochs = [stood.names for stood in script.record.step if all(name in stood.names for name in wanted)]
    if not epochs or not hasattr(trainer, "accelerator"):
        return None
    for thread in threading.enumerate():
        if type(thread).__module__.startswith(
            "tqdm."
        ):  # it looks after progress bars, asleep for ten seconds at a time
            cast(Any, thread).exit()
    loop = TrainerLoop(script, trainer, epochs[0])
    schedule = trainer.lr_scheduler
    inner = getattr(schedule, "scheduler", schedule)  # accelerate's stands around it
    return Library(
        name="the Trainer",
        loop=loop,
        batches=[epochs[0]["inputs"]],
        state=[trainer.model, trainer.optimizer, schedule],
        train_loader=None,
        val_loader=_validation(trainer),
        epochs=None if trainer.args.max_steps > 0 else math.ceil(trainer.args.num_train_epochs),
        intervals={id(inner): "epoch" if _waits(inner) else "step"},
        folders=[str(folder) for folder in _log_folders(trainer)],
    )


def _waits(schedule: Any) -> bool:
    """Whether a schedule is stepped after an evaluation, with its result."""
    return hasattr(schedule, "num_bad_epochs")


def _log_folders(trainer: Any) -> list[Any]:
    """Where its reporters write."""
    writers = [getattr(callback, "tb_writer", None) for callback in trainer.callback_handler.callbacks]
    return [writer.log_dir for writer in writers if writer is not None]


def _validation(trainer: Any) -> Any:
    """The loader that it evaluates on, of several the first."""
    data = trainer.eval_dataset
    if data is None:
        return None
    return trainer.get_eval_dataloader(next(iter(data)) if isinstance(data, dict) else None)


@contextmanager
def _quiet(trainer: Any) -> Iterator[None]:
    """What a loss of the user's logs goes nowhere."""
    patches = Patches()
    patches.put(trainer, "log", lambda *_, **__: None)
    try:
        yield
    finally:
        patches.take_back()
