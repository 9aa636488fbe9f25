"""What a user's training step does, call by call and in order: backward passes, clipping, steps, schedules, scaling."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nncheck.lab.interception import CLIPS, Patches, closure_given, holders_of, kinds_of
from nncheck.observe.source import calling_place
from nncheck.verdict import Place

# Gradients are compared on tensors of so many numbers in all: enough to tell a sum from its parts.
COMPARED_NUMBERS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing a training step did.

    kind "backward": value is the number it started from, training the model's mode, uncleared whether every gradient that it added
    to was there already.
    kind "clip": value is the gradient norm before, limit the largest allowed one; empty: there was no gradient to clip.
    kind "step" (of the set-up's optimizer; "other-step" of another): value is the gradient norm that it used, summed that of the
    sum of all backward passes since the last step, last_apart how far the gradient is from the last backward pass's alone,
    relative to its size; backwards how many there were. stale: names whose gradient was never cleared since the last step, of
    `held` that have one; of an "other-step", the same of that optimizer's parameters, other being its number from 1 on.
    kinds "schedule", "scale", "unscale", "scaled-step", "update": of the scheduler and the gradient scaler.
    """

    kind: Literal[
        "backward", "clip", "step", "other-step", "schedule", "scale", "unscale", "scaled-step", "update", "gradient"
    ]
    place: Place
    value: float = 0.0
    limit: float = 0.0
    empty: bool = False
    training: bool = True
    uncleared: bool = False
    summed: float = 0.0
    last_apart: float = 0.0
    backwards: int = 0
    closure: bool = False
    stale: tuple[str, ...] = ()
    held: int = 0
    other: int = 0


@dataclass
class _Other:
    """Another optimizer that steps: its parameters, and which of them had no gradient at a backward pass since its last step."""

    number: int
    held: list[Tensor]
    clean: set[int]
    backwards: int = 0

    def look(self) -> None:
        self.clean |= {i for i, p in enumerate(self.held) if not _has_gradient(p)}
        self.backwards += 1


class Recorder:
    """Collects events while `watching()`; `take()` gives those since the last call of it."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        names = {id(p): name for name, p in model.named_parameters()}
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self._all_names = names
        self._names = [names.get(id(p), f"parameter {index}") for index, p in enumerate(held)]
        self._held = held
        total, self._compared = 0, 0
        for p in held:
            total += p.numel()
            self._compared += total <= COMPARED_NUMBERS or not self._compared
        self._events: list[Event] = []
        self._depth = 0
        self._in_scaler = False
        self._in_schedule = False
        self._clean: set[int] = set()
        self._others: dict[int, _Other] = {}
        self._sum: list[Tensor | None] = [None] * self._compared
        self._last: list[Tensor | None] = [None] * self._compared
        self._backwards = 0
        self._steps = 0
        self.losses: list[Tensor] = []

    def take(self) -> tuple[Event, ...]:
        """The events of one call of the step."""
        found, self._events = tuple(self._events), []
        self.losses = []
        return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside: everything is done as the user wrote it, and told."""
        patches = Patches()
        tensors: Callable[..., None] = Tensor.backward
        autograd = torch.autograd.backward

        def backward(loss: Tensor, *arguments: Any, **options: Any) -> None:
            self._backward([loss], lambda: tensors(loss, *arguments, **options))

        def backwards(losses: Any, *arguments: Any, **options: Any) -> None:
            several = [losses] if isinstance(losses, Tensor) else list(losses)
            self._backward(several, lambda: autograd(losses, *arguments, **options))

        gradient = torch.autograd.grad

        def grad(*arguments: Any, **options: Any) -> Any:
            self._add("gradient")
            return gradient(*arguments, **options)

        patches.put(Tensor, "backward", backward)
        patches.put(torch.autograd, "backward", backwards)
        patches.put(torch.autograd, "grad", grad)
        for name in CLIPS:
            original = getattr(torch.nn.utils, name)
            for module, attribute in holders_of(original):
                patches.put(module, attribute, self._clipping(original))
        if hasattr(self._scheduler, "step"):
            patches.put(self._scheduler, "step", self._telling("schedule", self._scheduler.step))
        else:  # one that only the training step knows
            for kind in set(kinds_of(torch.optim.lr_scheduler.LRScheduler)):
                if "step" in vars(kind):
                    patches.put(kind, "step", self._scheduling(kind.step))
        scaler = torch.amp.GradScaler
        told = {"scale": "scale", "unscale_": "unscale", "step": "scaled-step", "update": "update"}
        for name, kind in told.items():
            patches.put(scaler, name, self._scaling(kind, getattr(scaler, name)))
        hook = register_optimizer_step_pre_hook(self._stepping)
        try:
            yield
        finally:
            hook.remove()
            patches.take_back()

    def _add(self, kind: Any, **values: Any) -> None:
        self._events.append(Event(kind=kind, place=calling_place(str(kind)), **values))

    def _backward(self, losses: list[Tensor], call: Any) -> None:
        if self._depth:  # Tensor.backward calls torch.autograd.backward
            call()
            return
        self._depth += 1
        before = [None if p.grad is None else p.grad.detach().clone() for p in self._held[: self._compared]]
        self._clean |= {i for i, p in enumerate(self._held) if p.grad is None or not bool(p.grad.detach().any())}
        for other in self._others.values():
            other.look()
        training = self._model.training
        full = {i for i, p in enumerate(self._held) if _has_gradient(p)}
        try:
            call()
        finally:
            self._depth -= 1
        self._backwards += 1
        for i, old in enumerate(before):
            new = self._held[i].grad
            if new is None:
                self._last[i] = None
                continue
            new = new.detach().to_dense() if new.is_sparse else new.detach()
            part = new.clone() if old is None else new - (old.to_dense() if old.is_sparse else old)
            self._last[i] = part
            held = self._sum[i]
            self._sum[i] = part.clone() if held is None else held + part
        self.losses.extend(losses)
        value = sum(float(loss.detach().sum()) for loss in losses)
        reached = {i for i, p in enumerate(self._held) if _has_gradient(p)}
        self._add("backward", value=value, training=training, uncleared=bool(reached) and reached <= full)

    def _clipping(self, original: Any) -> Any:
        by_value = original.__name__ == "clip_grad_value_"
        signature = inspect.signature(original)

        def clip(*arguments: Any, **options: Any) -> Any:
            given = signature.bind(*arguments, **options)  # the limit is often given by its name
            parameters = given.arguments["parameters"]
            several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            given.arguments["parameters"] = several  # a generator can be read once
            grads = [p.grad.detach() for p in several if p.grad is not None]
            norm = _norm(grads)
            limit = float("inf") if by_value else float(given.arguments["max_norm"])
            self._add("clip", value=norm, limit=limit, empty=norm == 0)
            return original(*given.args, **given.kwargs)

        return clip

    def _telling(self, kind: str, original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self._add(kind)
            return original(*arguments, **options)

        return call

    def _scheduling(self, original: Any) -> Any:
        def call(schedule: Any, *arguments: Any, **options: Any) -> Any:
            # A schedule of several steps them within its own step.
            if getattr(schedule, "optimizer", None) is self._optimizer and not self._in_schedule:
                self._add("schedule")
            outer, self._in_schedule = self._in_schedule, True
            try:
                return original(schedule, *arguments, **options)
            finally:
                self._in_schedule = outer

        return call

    def _scaling(self, kind: str, original: Any) -> Any:
        def call(scaler: Any, *arguments: Any, **options: Any) -> Any:
            outer, self._in_scaler = self._in_scaler, True
            if not outer:  # a scaler's step unscales by itself
                self._add(kind, value=float(scaler.get_scale()) if scaler.is_enabled() else 1.0)
            try:
                return original(scaler, *arguments, **options)
            finally:
                self._in_scaler = outer

        return call

    def _stepping(self, optimizer: Any, arguments: Any, options: Any) -> None:
        if optimizer is not self._optimizer:
            self._stepping_other(optimizer)
            return
        closure = closure_given(arguments, options)
        grads = [p.grad for p in self._held]
        now = [None if g is None else g.detach() for g in grads]
        apart = [
            (_minus(a, b), b)
            for a, b in zip(now[: self._compared], self._last, strict=True)
            if a is not None or b is not None
        ]
        last = _norm([b for _, b in apart if b is not None])
        stale = [
            name
            for i, (name, g) in enumerate(zip(self._names, grads, strict=True))
            if self._steps and g is not None and i not in self._clean and bool(g.detach().any())
        ]
        self._add(
            "step",
            value=_norm([g for g in now[: self._compared] if g is not None]),
            summed=_norm([s for s in self._sum if s is not None]),
            last_apart=_norm([d for d, _ in apart if d is not None]) / last if last > 0 else float("inf"),
            backwards=self._backwards,
            closure=closure,
            stale=tuple(stale),
            held=sum(g is not None and bool(g.detach().any()) for g in grads),
        )
        self._clean = set()
        self._sum = [None] * self._compared
        self._backwards = 0
        self._steps += 1

    def _stepping_other(self, optimizer: torch.optim.Optimizer) -> None:
        known = self._others.get(id(optimizer))
        held = [p for group in optimizer.param_groups for p in group["params"]]
        full = [i for i, p in enumerate(held) if _has_gradient(p)]
        old = [i for i in full if i not in known.clean] if known is not None and known.backwards else []
        number = known.number if known is not None else len(self._others) + 1
        names = tuple(self._all_names.get(id(held[i]), f"parameter {i}") for i in old)
        self._add("other-step", stale=names, held=len(full), other=number)
        self._others[id(optimizer)] = _Other(number=number, held=held, clean=set())


def _has_gradient(p: Tensor) -> bool:
    return p.grad is not None and bool(p.grad.detach().any())


def _minus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    a = a.to_dense() if a is not None and a.is_sparse else a
    if a is None or b is None:
        return a if b is None else b
    return a - b


def _norm(tensors: list[Tensor]) -> float:
    dense = [t.to_dense() if t.is_sparse else t for t in tensors]
    return float(sum(float(t.double().pow(2).sum()) for t in dense) ** 0.5)
