"""`Trainer.train` of transformers, going on for real in the copy: a callback of its own kind keeps its epochs short."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from nncheck.capture.frameworks.library import Watched
from nncheck.observe.source import is_users, place_at

if TYPE_CHECKING:
    from nncheck.capture.script import Script
    from nncheck.capture.watcher import Watcher


def keep_huggingface_short(script: Script, trainer: Any, watcher: Watcher) -> Watched | None:
    """None if the trainer has not asked a loader for its batches."""
    last = next(reversed(script.record.requests.values()), None)
    if last is None or not hasattr(trainer, "callback_handler"):
        return None
    every = trainer.args.gradient_accumulation_steps
    steps = max(1, watcher.length_of(every) // every)
    trainer.state.eval_steps = min(trainer.state.eval_steps, steps)
    trainer.callback_handler.callbacks.insert(0, _teller(trainer, last.loader, steps, watcher))
    told, scores = _Evaluating(trainer), _Scores(trainer)
    return Watched(
        loader=last.loader,
        micro=every,
        validating=lambda: told.now,
        metrics=dict,
        scored=lambda: scores.seen,
        held=[trainer, trainer.model],
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


class _Scores:
    """Asks the user's `compute_metrics` what it makes of perfect predictions, and of wrong ones, beside the model's own.

    Only of one class for each sample: where positions are scored, labels may be shifted or left out.
    """

    def __init__(self, trainer: Any) -> None:
        self.seen: Any = None
        self._real, self._rows = trainer.compute_metrics, trainer.args.per_device_eval_batch_size
        code = getattr(self._real, "__code__", None)
        if code is not None and is_users(code.co_filename):
            trainer.compute_metrics = self

    def __call__(self, prediction: Any, *rest: Any, **options: Any) -> Any:
        found = self._real(prediction, *rest, **options)
        if self.seen is None and not rest and not options and isinstance(found, dict):
            self.seen = self._compared(prediction, found)
        return found

    def _compared(self, prediction: Any, own: dict[str, Any]) -> Any:
        from nncheck.capture.witnesses.metric_names import is_accuracy, number_of
        from nncheck.capture.witnesses.metrics_seen import Metric, MetricsSeen

        answers = _answers(prediction.predictions, prediction.label_ids)
        if answers is None:
            return None
        right, wrong = (
            self._real(type(prediction)(predictions=answer, label_ids=prediction.label_ids)) for answer in answers
        )
        code = self._real.__code__
        place = place_at(code.co_name, code.co_filename, code.co_firstlineno)
        metrics = []
        for key in own:
            values = [number_of(one.get(key)) for one in (own, right, wrong)]
            if is_accuracy(key) and None not in values:
                mine, best, worst = (float(value or 0.0) for value in values)
                metrics.append(Metric(place=place, own=mine, right=best, wrong=worst, digits=-1))
        rows = len(prediction.label_ids)
        batches = math.ceil(rows / max(1, self._rows))
        return MetricsSeen(metrics=tuple(metrics), samples=rows, targets=rows, batches=batches)


def _answers(predictions: Any, labels: Any) -> tuple[Any, Any] | None:
    """What the model would have to predict so that every class is right, and so that every one is wrong."""
    if not isinstance(predictions, np.ndarray) or not isinstance(labels, np.ndarray) or labels.ndim != 1:
        return None
    if not np.issubdtype(labels.dtype, np.integer) or predictions.ndim != 2 or len(predictions) != len(labels):
        return None
    classes = predictions.shape[1]
    if classes < 2 or not len(labels) or labels.min() < 0 or labels.max() >= classes:
        return None
    scores = np.eye(classes, dtype=predictions.dtype)
    return scores[labels], scores[(labels + 1) % classes]
