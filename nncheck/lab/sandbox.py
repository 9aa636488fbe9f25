"""Where probes run: the user's own objects, seeded, metered, within the time budget, and put back after every trial."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, OutOfTime
from nncheck.lab import batch as batches
from nncheck.lab.beside import Beside, steps_from_grad
from nncheck.lab.feed import Feed
from nncheck.lab.interception import held_parameters
from nncheck.lab.meter import Meter
from nncheck.lab.modes import set_mode
from nncheck.lab.objective import Objective, Outcome
from nncheck.lab.snapshot import Snapshot, loader_roots, seed_everything
from nncheck.observe.watch import Handler, ModuleHandler
from nncheck.recipe import Setup


class Sandbox:
    """One target's set-up, ready for probes.

    setup: the live objects. model: the innermost module (out of `torch.compile` and DDP). feed: its batches, each fetched once.
    seed: what every trial starts from. meter: counts passes. deadline: `time.monotonic()` at which the run must end.
    """

    def __init__(self, setup: Setup, *, seed: int = 0, device: torch.device, deadline: float = float("inf")) -> None:
        self.setup = setup
        self.seed = seed
        self.device = device
        self.deadline = deadline
        self.meter = Meter()
        self.model = unwrap(setup.model)
        self.objective = Objective(setup, self.model)
        self.feed = Feed(setup.train_loader, device=device, seed=seed, clock=self.check_time)
        self._roots = [
            self.model, setup.loss_fn, setup.optimizer, setup.scheduler, setup.training_step, setup.train_step,
            *loader_roots(setup.train_loader), *loader_roots(setup.val_loader),
            *getattr(setup.training_step, "roots", ()),  # what a script's own loop may change besides
        ]  # fmt: skip
        self._others = [r for r in getattr(setup.training_step, "roots", ()) if isinstance(r, nn.Module)]
        self._pristine = Snapshot(self._roots)
        self._beside = Beside(held_parameters(self.model, setup.optimizer))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.setup.optimizer

    def check_time(self) -> None:
        """Raise OutOfTime if the budget is used up. Call it in every loop."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def checkpoint(self) -> Snapshot:
        """The present state, to start a later trial from."""
        return Snapshot(self._roots)

    def put_back(self) -> None:
        """Put everything back as the user left it."""
        self._pristine.restore()

    @contextmanager
    def trial(
        self, *, mode: Literal["train", "eval"] = "train", seed: int | None = None, start: Snapshot | None = None
    ) -> Iterator[nn.Module]:
        """An experiment: the model in `mode`, gradients cleared, everything seeded; afterwards all is as the user left it.

        `start`: a checkpoint to begin from instead of the user's state. In "train" mode every module is as the user left it if
        the model was in train mode when it was given to us (frozen BatchNorm in eval mode stays in eval mode), and else `.train()`.
        """
        self.check_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if start is not None:
                    start.restore()
                if mode == "eval":
                    for model in (self.model, *self._others):  # a generator's batch norm mixes what its critic is given
                        set_mode(model, False)
                elif not self.model.training:
                    set_mode(self.model, True)
                for parameter in self.model.parameters():
                    parameter.grad = None
                for group in self.optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.grad = None
                seed_everything(self.seed if seed is None else seed)
                with torch.enable_grad():
                    yield self.model
        finally:
            self._pristine.restore()

    def forward(
        self,
        batch: Any,
        *,
        index: int = 0,
        calls: tuple[Handler, ...] = (),
        modules: tuple[ModuleHandler, ...] = (),
    ) -> Outcome:
        """One metered forward pass to the loss. Raises TargetError with the user's frames if the user's code fails."""
        self.check_time()
        self.meter.count(forward=self._share(batch))
        self._beside.clear()
        return self.objective(batch, index=index, calls=calls, modules=modules)

    def predict(self, batch: Any, *, calls: tuple[Handler, ...] = (), modules: tuple[ModuleHandler, ...] = ()) -> Any:
        """One metered forward pass to the model's output."""
        self.check_time()
        self.meter.count(forward=self._share(batch))
        return self.objective.predict(batch, calls=calls, modules=modules)

    def backward(self, loss: Tensor, batch: Any) -> None:
        """One metered backward pass, as the user's `loss.backward()`."""
        self.check_time()
        if not loss.requires_grad:
            raise CannotMeasure("the loss has no gradient")
        self.meter.count(backward=self._share(batch))
        with self._beside.noting():
            loss.backward()

    def fed_beside(self, *, ask: bool = True) -> str:
        """The attribute of the parameters that the optimizer steps from instead of `.grad`, by all that is known; else "".

        ask: run a backward pass if there was none yet: only outside a trial.
        """
        if steps_from_grad(self.optimizer):
            return ""
        if ask and not self._beside.noted:
            with self.trial(), suppress(RuntimeError):  # of the backward pass: `forward-pass` and others tell of it
                loss = self.forward(self.feed.first).loss
                if loss.requires_grad:
                    self.backward(loss, self.feed.first)
        return self._beside.gradients

    def grad(
        self, outputs: Tensor, inputs: list[Tensor], batch: Any, *, retain_graph: bool = False
    ) -> tuple[Tensor | None, ...]:
        """One metered backward pass of a scalar to chosen tensors; None where there is no path."""
        self.check_time()
        self.meter.count(backward=self._share(batch))
        return torch.autograd.grad(outputs, inputs, retain_graph=retain_graph, allow_unused=True)

    def _share(self, batch: Any) -> float:
        return batches.size(batch) / max(1, self.feed.batch_size)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside `torch.compile` and data-parallel wrappers, which add a prefix to every name."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
