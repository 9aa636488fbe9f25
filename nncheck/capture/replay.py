"""The script's own loop as the training step: given a batch, it runs to the loss, or takes the whole step."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from nncheck.capture.calls import Calls
from nncheck.capture.frameworks.library import Iterations
from nncheck.capture.record import CALL
from nncheck.capture.script import Script
from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.interception import EnoughLosses, Patches, Withheld, withheld
from nncheck.lab.snapshot import RandomState
from nncheck.observe.source import words_of


class Replay:
    """The loops of a script that stands at its first step.

    inner: the loop that leads from a batch to its backward passes. outer: the one that leads to the step as well.
    calls: set if the loop has no loader: then batches are put into the calls of its models. state: what the loop may change.
    """

    def __init__(
        self, script: Script, inner: Iterations, outer: Iterations, *, calls: Calls | None, state: list[Any]
    ) -> None:
        self._script, self.calls, self.early = script, calls, script.early
        self.record = script.record
        self.inner, self.outer = inner, outer
        self.state = state
        self._running: Iterator[None] | None = None

    def loss(
        self,
        model: nn.Module,
        optimizer: Any,
        batch: Any,
        *,
        losses: tuple[int, int],
        random: Mapping[int, RandomState] = MappingProxyType({}),
    ) -> Tensor:
        """The sum of the losses number `first` to `last` that one iteration goes back from, with its graph; nothing is updated.

        random: the generators' states where the batch is given, as `Begun` holds them.
        Raises TargetError if there are none.
        """
        found = self.losses(model, optimizer, batch, losses=losses, random=random)
        return found[0] if len(found) == 1 else torch.stack([loss.sum() for loss in found]).sum()

    def losses(
        self,
        model: nn.Module,
        optimizer: Any,
        batch: Any,
        *,
        losses: tuple[int, int],
        random: Mapping[int, RandomState] = MappingProxyType({}),
        whole: bool = False,
    ) -> list[Tensor]:
        """These losses one by one; `whole`: by the loop of the whole step, where the other begins only after it has its batch."""
        first, last = losses
        with self._replaying(batch, random), _modes_kept(), ExitStack() as stack:
            seen: Withheld = stack.enter_context(withheld(model, optimizer, None, others=self.state, at_most=last))
            if last - first > 1:
                # Between two backward calls a loop may overwrite what the first graph still needs (`label.fill_(0)`).
                stack.enter_context(saved_tensors_hooks(_own_copy, lambda tensor: tensor))
            with suppress(EnoughLosses, StopIteration):
                next((self.outer if whole else self.inner).begin())
        found = [loss for loss, _ in seen.losses[first:last]]
        if not found:
            raise TargetError("the loop took a batch and called no backward on it")
        return found

    def step(self, batch: Any, *, anew: bool) -> None:
        """One iteration of the loop as it is: backward, clipping, update, schedule. `anew`: begin with its first."""
        with self._replaying(batch):
            if anew or self._running is None:
                self._running = self.outer.begin()
            try:
                next(self._running)
            except StopIteration:  # a range has come to its end
                self._running = self.outer.begin()
                next(self._running, None)

    def look(self, model: nn.Module, optimizer: Any, iterations: int) -> Withheld:
        """Which optimizers and schedules would step in so many iterations of the whole step, and after how many losses."""
        with self._replaying(None), _modes_kept(), withheld(model, optimizer, None, others=self.state) as seen:
            run = self.outer.begin()
            for _ in range(iterations):
                next(run, None)
        return seen

    def own_batch(self, model: nn.Module, optimizer: Any) -> Any:
        """The next batch that a loop without a loader brings by itself."""
        assert self.calls is not None
        self.losses(model, optimizer, None, losses=(0, 1), whole=True)
        return batches.map_tensors(lambda t: t.detach().clone(), self.calls.taken.batch())

    def close(self) -> None:
        """Leave the script's variables as they were when it stopped."""
        self._running = None
        self.inner.reset()
        self.outer.reset()

    @contextmanager
    def _replaying(self, batch: Any, random: Mapping[int, RandomState] = MappingProxyType({})) -> Iterator[None]:
        script = self._script
        script.mode, script.handed, script.handed_over, script.random = "replay", batch, 0, random
        try:
            with self.calls.around(batch, random.get(CALL)) if self.calls is not None else ExitStack():
                yield
        finally:
            script.mode, script.handed, script.random = "off", None, {}


@contextmanager
def _modes_kept() -> Iterator[None]:
    """The mode under test is not the loop's to change: its `.train()` and `.eval()` do nothing."""
    patches = Patches()
    patches.put(nn.Module, "train", lambda module, mode=True: module)
    try:
        yield
    finally:
        patches.take_back()


class LossOfLoop:
    """`training_step` for one of a script's optimizers. `label`: how it is called in a report; `roots`: what it may change.

    early: how the script began.
    """

    def __init__(self, replay: Replay, optimizer: Any, losses: tuple[int, int]) -> None:
        self.replay, self._optimizer, self._losses = replay, optimizer, losses
        self.roots = replay.state
        self.early = replay.early
        self.label = "of the script's own loop"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        return self.replay.loss(model, self._optimizer, batch, losses=self._losses)


class StepOfLoop:
    """`train_step`: the loop's whole iteration, as it is written.

    onward: the script going on for real, as far as it is this optimizer's, or None.
    updates: of the whole run, if a library counts them.
    """

    def __init__(self, replay: Replay, onward: Any = None) -> None:
        self._replay = replay
        self.onward = onward
        self.updates: int | None = getattr(replay.outer, "updates", None)
        self.label = "the script's own loop"

    def __call__(self, model: nn.Module, batch: Any, batch_idx: int) -> None:
        try:
            self._replay.step(batch, anew=batch_idx == 0)
        except Exception as error:
            if self._replay.calls is None or batch_idx == 0 or _going_back(error):
                raise
            # A state that the first round made is data to the second: what it is given comes in another order.
            raise CannotMeasure(
                f"a further round of the loop does not take its batch as the first did: {words_of(error)}"
            ) from error


class CallLoader:
    """The batches that a loop without a loader brings, one an iteration; there is no end to them."""

    def __init__(self, replay: Replay, model: nn.Module, optimizer: Any) -> None:
        self._replay, self._model, self._optimizer = replay, model, optimizer

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self._replay.own_batch(self._model, self._optimizer)


def _going_back(error: BaseException) -> bool:
    """Whether a backward pass raised it."""
    return any(frame.name == "backward" for frame in traceback.extract_tb(error.__traceback__))


def _own_copy(tensor: Tensor) -> Tensor:
    return tensor if tensor.requires_grad else tensor.clone()
