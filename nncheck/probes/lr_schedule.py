"""The learning-rate schedule, followed step by step on the user's own scheduler; no pass of the model is needed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from nncheck.errors import CannotMeasure
from nncheck.lab.indices import length_of
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot
from nncheck.observe.source import words_of
from nncheck.observe.step_source import accumulates, fed_to_scheduler
from nncheck.registry import probe
from nncheck.verdict import Place

# A step of torch's schedulers takes 2 to 3 microseconds: the whole of a run of 200,000 updates is followed in half a second.
MOST_STEPS, MOST_SECONDS = 200_000, 1.5
# Every one of the first steps is kept, so that a schedule meant for epochs can be seen at its own grain; later ones thinned.
DENSE, THINNED = 3000, 2000
# Without a number of epochs the schedule is followed at least so far.
UNKNOWN = 5000


@dataclass(frozen=True, kw_only=True)
class Part:
    """One scheduler, or one of those inside a SequentialLR or ChainedScheduler.

    begin: the step at which it takes over. length: steps from there to the end it was given (T_max, total_steps, total_iters,
    num_training_steps), under the name `length_name`. marks: the steps at which it lowers the rate (milestones; one step_size).
    """

    kind: str
    begin: int
    length: int | None = None
    length_name: str = ""
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """A scheduler that waits for a value to stop improving. fed: the expression it is given, "" if not known."""

    mode: str
    fed: str
    place: Place | None


@dataclass(frozen=True, kw_only=True)
class LrSchedule:
    """The rates that the scheduler gives, by its own steps.

    steps, rates: the rate of the leading parameter group after so many scheduler steps (the first entry is the rate now).
    relative: the same as a part of the highest rate ever seen, of the group that is highest by this measure. stops: what it
    raised, and after how many steps. interval: "step" or "epoch" if the user said so. batches: in an epoch, if known.
    begun: steps it had taken when it was given to us. trained: the optimizer has been used. stateful: one could tell.
    elsewhere: it drives another optimizer. accumulates: the user's step adds up gradients over several batches.
    meant: the highest rate the groups were made with. updates: how many the run is to have, where a library counts them.
    """

    kind: str
    parts: tuple[Part, ...]
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    relative: tuple[float, ...]
    stops: tuple[int, str] | None
    interval: str | None
    epochs: int | None
    batches: int | None
    begun: int
    trained: bool
    stateful: bool
    elsewhere: bool
    accumulates: bool
    meant: float
    plateau: Plateau | None = None
    place: Place | None = None
    updates: int | None = None


@probe
def lr_schedule(sandbox: Sandbox) -> LrSchedule:
    """Step the user's scheduler through the planned run and further, inside a trial, and put everything back."""
    setup = sandbox.setup
    scheduler = _unwrap(setup.scheduler)
    if scheduler is None:
        raise CannotMeasure("there is no scheduler")
    if setup.default_optimizer:
        raise CannotMeasure("the scheduler belongs to an optimizer that was not given")
    if not callable(getattr(scheduler, "step", None)):
        raise CannotMeasure(f"{type(scheduler).__name__} has no step()")
    optimizer = getattr(scheduler, "optimizer", sandbox.optimizer)
    groups = getattr(optimizer, "param_groups", sandbox.optimizer.param_groups)
    batches = length_of(setup.train_loader)
    plateau = None
    if _waits(scheduler):
        fed, place = fed_to_scheduler(setup)
        plateau = Plateau(mode=str(getattr(scheduler, "mode", "")), fed=fed, place=place)
    updates = getattr(setup.train_step, "updates", None)
    run = updates or max(setup.epochs or 0, (setup.epochs or 0) * (batches or 0)) or max(UNKNOWN, 2 * (batches or 0))
    steps, rows, stops = _follow(sandbox, scheduler, groups, most=0 if plateau else 2 * run + 2000)
    peaks = [max(column) for column in zip(*rows, strict=True)]
    leading = max(range(len(peaks)), key=peaks.__getitem__, default=0)
    return LrSchedule(
        kind=type(scheduler).__name__,
        parts=tuple(_parts(scheduler)),
        steps=tuple(steps),
        rates=tuple(row[leading] for row in rows) if peaks else (),
        relative=tuple(max((v / p for v, p in zip(row, peaks, strict=True) if p > 0), default=0.0) for row in rows),
        stops=stops,
        interval=setup.scheduler_interval,
        epochs=setup.epochs,
        batches=batches,
        begun=0 if plateau else _taken(scheduler),
        trained=bool(getattr(optimizer, "_opt_called", False)) or any(bool(s) for s in optimizer.state.values()),
        stateful=not isinstance(optimizer, torch.optim.SGD) or any(g.get("momentum", 0) for g in groups),
        elsewhere=optimizer is not sandbox.optimizer and groups is not sandbox.optimizer.param_groups,
        accumulates=accumulates(setup),
        meant=max((_meant(group) for group in groups), default=0.0),
        plateau=plateau,
        place=setup.origins.get("scheduler"),
        updates=updates,
    )


def _follow(
    sandbox: Sandbox, scheduler: Any, groups: list[dict[str, Any]], *, most: int
) -> tuple[list[int], list[list[float]], tuple[int, str] | None]:
    stride = max(1, (min(most, MOST_STEPS) - DENSE) // THINNED)
    stops = None
    with sandbox.trial():
        before = Snapshot([vars(scheduler), *(vars(s) for s in _inner(scheduler)), groups])
        steps, rows = [0], [[float(group["lr"]) for group in groups]]
        began = time.monotonic()
        try:
            for number in range(1, min(most, MOST_STEPS) + 1):
                try:
                    scheduler.step()
                except Exception as error:  # noqa: BLE001  # a schedule that ends raises what it likes
                    stops = (number - 1, f"{type(error).__name__}: {words_of(error)}")
                    break
                if number <= DENSE or number % stride == 0:
                    steps.append(number)
                    rows.append([float(group["lr"]) for group in groups])
                    sandbox.check_time()
                if number % 1000 == 0 and time.monotonic() - began > MOST_SECONDS:
                    break
        finally:
            before.restore()
    return steps, rows, stops


def _unwrap(scheduler: Any) -> Any:
    """The scheduler inside accelerate's wrapper; the only one of a list."""
    if isinstance(scheduler, (list, tuple)) and len(scheduler) == 1:
        scheduler = scheduler[0]
    inner = getattr(scheduler, "scheduler", None)
    return inner if isinstance(inner, LRScheduler) else scheduler


def _inner(scheduler: Any) -> list[Any]:
    return list(getattr(scheduler, "_schedulers", ()))


def _waits(scheduler: Any) -> bool:
    """Whether a step needs a value, as ReduceLROnPlateau's does."""
    try:
        parameters = inspect.signature(scheduler.step).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        for p in parameters
    )


def _taken(scheduler: Any) -> int:
    inner = _inner(scheduler)
    taken = getattr(scheduler, "last_epoch", getattr(inner[0], "last_epoch", 0) if inner else 0)
    return taken if isinstance(taken, int) else 0


def _meant(group: dict[str, Any]) -> float:
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _parts(scheduler: Any, begin: int = 0) -> Iterator[Part]:
    kind = type(scheduler).__name__
    inner = _inner(scheduler)
    if inner:
        starts = [0, *getattr(scheduler, "_milestones", [0] * (len(inner) - 1))]
        for one, start in zip(inner, starts, strict=False):
            yield from _parts(one, begin + start)
        return
    length, name = None, ""
    for name in ("T_max", "total_steps", "total_iters"):
        value = getattr(scheduler, name, None)
        if isinstance(value, (int, float)):
            length = int(value)
            break
    else:
        for function in getattr(scheduler, "lr_lambdas", ()):
            value = getattr(function, "keywords", {}).get("num_training_steps")
            if isinstance(value, (int, float)):
                length, name = int(value), "num_training_steps"
    marks: tuple[int, ...] = ()
    if isinstance(getattr(scheduler, "step_size", None), int):
        marks = (scheduler.step_size,)
    elif hasattr(scheduler, "milestones"):
        marks = tuple(sorted(int(m) for m in scheduler.milestones))
    yield Part(kind=kind, begin=begin, length=length, length_name=name if length is not None else "", marks=marks)
