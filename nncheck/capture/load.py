"""From a training script to recipes: run it to its first optimizer step, find its parts, make sure that its loop can be asked."""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nncheck.capture.calls import Calls
from nncheck.capture.endings import Containment
from nncheck.capture.finding import (
    find_epochs,
    find_model,
    find_optimizer,
    find_schedulers,
    find_state,
    find_validation,
)
from nncheck.capture.frameworks import accelerate_state, plain_loader
from nncheck.capture.frameworks.tidy import left_behind
from nncheck.capture.hooks import patched
from nncheck.capture.iteration import iterations
from nncheck.capture.record import Record
from nncheck.capture.replay import CallLoader, LossOfLoop, Replay, StepOfLoop
from nncheck.capture.running import execute, never_stepped
from nncheck.capture.script import Script
from nncheck.errors import OutOfTime, TargetError
from nncheck.lab.snapshot import RandomState, Snapshot
from nncheck.observe.source import is_users, place_at, shown, shown_from, words_of
from nncheck.recipe import Recipe
from nncheck.target.discovery import Found
from nncheck.target.loading import Target
from nncheck.verdict import Place

# A step may wait for the batches it accumulates; longer than this the loop is not followed to its step.
MOST_ACCUMULATED = 64

# With another number of threads sums are taken in another order: in float32, of 24 bits, losses differ by some 1e-7.
SAME_LOSS = 1e-5


def capture(target: Target, arguments: tuple[str, ...], use: Callable[[tuple[Found, ...]], None], *, cpu: bool) -> None:
    """Run a script as `__main__`; at its first optimizer step `use` is called with a recipe for each of its optimizers.

    All that `use` does happens inside the script, where it stands: its files, contexts and threads are alive. Then it is ended.
    Raises TargetError if it ends before, or trains nothing known; and whatever `use` raises.
    """
    from nncheck.registry import load

    load()  # what compares torch's functions must have seen them before they are patched

    def at_step(script: Script) -> None:
        with contained.paused():
            use(tuple(_found(script)))

    script = Script(target.path, arguments, at_step)
    contained = Containment(script)
    with _older_left_out(), shown_from(os.getcwd()), contained.around(), patched(script, cpu=cpu):
        try:
            failure = script.run(lambda: execute(target, arguments))
        finally:
            contained.end_threads()
    if contained.interrupted:
        raise KeyboardInterrupt
    if not script.reached:
        error = never_stepped(script, failure, contained)
        written = _written(script)
        error.detail = error.detail or (f"it wrote {written}" if written else "")
        raise error


@contextlib.contextmanager
def _older_left_out() -> Iterator[None]:
    """What is there before the script is not looked through for garbage, nor for the script's objects.

    There are some 300,000 such objects, torch's above all; a copy of the process would copy the pages they lie in.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _written(script: Script) -> str:
    """The first of the files and folders that the script left before its first step."""
    written = [shown(script.overlay.within(file)) for file in left_behind(script)]
    return ", ".join(list(dict.fromkeys(written))[:5])


def _found(script: Script) -> Iterator[Found]:
    """A recipe for every optimizer that steps in the first iteration."""
    record = script.record
    optimizer: Any = find_optimizer(record)
    record.optimizer = optimizer
    model, name = find_model(record, optimizer)
    if model is None:
        raise TargetError(
            f"no module holds the parameters that {type(optimizer).__name__} trains", places=_user_line(record.step)
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    model.zero_grad(set_to_none=True)
    record.put_back()
    library = script.library
    state = [*find_state(record), *accelerate_state(script), *(() if library is None else library.state)]
    way, said = _way(script, model, optimizer, state)
    replay = way.replay
    if record.first is not None:
        record.tensors = record.first
        record.put_back()
        yield _recipe(script, way, optimizer, model, name, (0, len(way.losses)), None, said, several=False)
        return
    begun = Snapshot([*state, model, optimizer])
    many = min(max(1, way.micro), MOST_ACCUMULATED)
    try:
        seen = replay.look(model, optimizer, many)
    except Exception as error:  # noqa: BLE001  # the rest of the iteration is not needed for its loss
        said.append(f"what follows the first step could not be run: {type(error).__name__}: {words_of(error)}")
        seen = None
    begun.restore()
    plain = seen is not None and not record.closure and many == 1 and way.all_seen
    steps = seen.steps if seen is not None and plain and seen.steps else [(optimizer, max(1, len(way.losses)))]
    before = 0
    judged: dict[int, tuple[Any, tuple[int, int]]] = {}
    for stepped, until in _unwrapped(steps, optimizer):
        if id(stepped) not in judged and until > before:
            judged[id(stepped)] = stepped, (before, until)
            before = until
    if script.onward is not None:
        script.onward.judge([stepped for stepped, _ in judged.values()])
    for stepped, losses in judged.values():
        part, called = (model, name) if stepped is optimizer else find_model(record, stepped)
        if part is not None:
            yield _recipe(script, way, stepped, part, called, losses, seen, said, several=len(steps) > 1)


def _unwrapped(steps: list[tuple[Any, int]], optimizer: Any) -> Iterator[tuple[Any, int]]:
    """Each optimizer that stepped; a library's that only stands for the first to step is that one, as is one that the loop made
    anew for the same parameters."""
    ours = [id(p) for group in optimizer.param_groups for p in group["params"]]
    for stepped, until in steps:
        same = type(stepped) is type(optimizer) and [id(p) for g in stepped.param_groups for p in g["params"]] == ours
        yield (optimizer if same or stepped.param_groups is optimizer.param_groups else stepped), until


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A way in which the loop may be asked: the loop, its first batch and the losses it then had.

    loader: None if the batch is what the calls of the model were given. random: the generators' states where the batch is given.
    all_seen: whether `losses` are all that the iteration had until its first step.
    """

    replay: Replay
    batch: Any
    losses: tuple[float, ...]
    loader: Any = None
    random: Mapping[int, RandomState] = field(default_factory=dict)
    beside: Mapping[int, Any] = field(default_factory=dict)
    micro: int = 1
    all_seen: bool = True


def _way(script: Script, model: nn.Module, optimizer: Any, state: list[Any]) -> tuple[_Way, list[str]]:
    """The way that reproduces the loss the script saw, and what is to be said of it."""
    record = script.record
    tried: list[str] = []
    for way in _ways(script, model, state):
        script.source, script.beside = way.loader, way.beside
        again, failure = _again(way, record, model, optimizer, Snapshot([*state, model, optimizer]))
        seen = math.fsum(way.losses)
        where = way.replay.inner.where
        if not failure and (again == seen or (math.isnan(again) and math.isnan(seen))):
            return way, [f"{where} is the training step: it gives the first loss again to the last bit, {seen:.6g}"]
        if abs(again - seen) <= SAME_LOSS * abs(seen):
            return way, [f"{where} is the training step: it gives the first loss again, {seen:.6g}"]
        tried.append(f"{where} {failure or f'gives {again:.6g}'} on the first batch; the script had {seen:.6g}")
    raise TargetError(
        f"{shown(str(script.path))}: its training loop could not be asked again"
        + ("" if tried else ": no loop leads from a batch to its backward pass"),
        places=_user_line(record.backward),
        detail="; ".join([*tried, f"found were {_parts(record, model, optimizer)}"]),
        help=f"nncheck init {shown(str(script.path))} writes down what was found; put the loss into its training_step",
    )


def _parts(record: Record, model: nn.Module, optimizer: Any) -> str:
    parts = [f"the model {type(model).__name__}", f"{type(optimizer).__name__}{_at(record.step)}"]
    parts += [
        f"a loader of {type(r.loader.dataset).__name__}"
        for r in record.requests.values()
        if hasattr(r.loader, "dataset")
    ]
    return ", ".join([*parts, f"backward{_at(record.backward)}"])


def _ways(script: Script, model: nn.Module, state: list[Any]) -> Iterator[_Way]:
    """A library's own step first; then the loops that lead from a batch to the first step."""
    record, library = script.record, script.library
    if library is not None:
        last = next(reversed(record.requests.values()), None)
        random = {} if record.called is None else record.called.random
        if last is not None and last.after is not None:
            random = {id(last.loader): last.after}
        for batch in library.batches:
            yield _Way(
                replay=Replay(script, library.loop, library.loop, calls=None, state=state), batch=batch,
                losses=tuple(record.newest_losses()), loader=None if last is None else last.loader,
                random=random,
                beside={id(request.loader): request.batch for request in record.requests.values()},
            )  # fmt: skip
        return  # the library's loop itself logs, saves and draws as it goes
    roots = [root for root in record.roots if any(True for _ in root.parameters())] or [model]
    for one in iterations(record):
        calls = None if one.loader is not None else Calls(roots)
        yield _Way(
            replay=Replay(script, one.inner, one.outer, calls=calls, state=state), batch=one.batch, losses=one.losses,
            loader=one.loader, random=one.random, beside=one.given, micro=one.micro, all_seen=one.all_seen,
        )  # fmt: skip


def _again(way: _Way, record: Record, model: nn.Module, optimizer: Any, before: Snapshot) -> tuple[float, str]:
    """The loss of the first iteration once more, from the same state and random numbers; how that failed, if it did."""
    world = RandomState()
    try:
        with torch.enable_grad():
            losses = (0, max(1, len(way.losses)))
            found = way.replay.losses(model, optimizer, way.batch, losses=losses, random=way.random)
            return math.fsum(float(loss.detach().sum()) for loss in found), ""
    except (OutOfTime, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001  # then this is not the way to ask it
        return math.nan, f"fails ({type(error).__name__}: {words_of(error)})"
    finally:
        before.restore()
        record.put_back()
        world.restore()


def _recipe(
    script: Script,
    way: _Way,
    optimizer: Any,
    model: nn.Module,
    name: str,
    losses: tuple[int, int],
    seen: Any,
    said: list[str],
    *,
    several: bool,
) -> Found:
    record, replay = script.record, way.replay
    by_hand = record.first is not None
    notes = [f"ran to the first step of {type(record.optimizer).__name__}{_at(record.step)}", *said]
    if by_hand:
        notes[0] = (
            f"no torch optimizer steps: after backward{_at(record.backward)} the weights are changed by hand, which is not "
            "checked; give the model's parameters to an optimizer of torch.optim and call its step() to have that checked too"
        )
    if record.stepless:
        notes[0] = (
            f"ran to its end, and {type(optimizer).__name__} never stepped; judged as in its last backward{_at(record.step)}"
        )
    if several:
        notes.append(f"judged for {type(optimizer).__name__}, which trains {name or type(model).__name__}")
    loader: Any = way.loader
    if replay.calls is not None:
        loader = CallLoader(replay, model, optimizer)
        notes.append(f"batches are what the loop gives {name or type(model).__name__} and its loss")
    schedulers = find_schedulers(optimizer)
    scheduler = schedulers[0] if len(schedulers) == 1 else None
    val_loader, val_name = find_validation(record, loader)
    epochs = find_epochs(record)
    library = script.library if script.library is not None and replay.inner is script.library.loop else None
    if library is not None:
        loader = loader if library.train_loader is None else library.train_loader
        val_loader, val_name = library.val_loader, ""
        epochs = library.epochs
    written = _written(script)
    if written:
        notes.append(f"it wrote before its first step: {written}")
    per_batch = seen is not None and any(schedule is scheduler for schedule in seen.schedules)
    interval = None if scheduler is None or seen is None else ("step" if per_batch else "epoch")
    if library is not None and interval is not None:
        interval = library.intervals.get(id(scheduler))
    recipe = Recipe(
        model=model, train_loader=plain_loader(loader), val_loader=plain_loader(val_loader),
        optimizer=None if by_hand else optimizer, scheduler=scheduler,
        scheduler_interval=interval, training_step=LossOfLoop(replay, optimizer, losses), epochs=epochs,
        train_step=None if by_hand else StepOfLoop(replay, script.onward and script.onward.of(optimizer)),
    )  # fmt: skip
    origins: dict[str, Place] = {}
    for part, value in (("optimizer", optimizer), ("train_loader", loader), ("scheduler", scheduler)):
        if id(value) in record.made:
            origins[part] = record.made[id(value)]
    names = {part: text for part, text in (("model", name), ("val_loader", val_name)) if text}
    label = f"{type(optimizer).__name__} of {name or type(model).__name__}" if several else ""
    return Found(recipe=recipe, origins=origins, names=names, notes=tuple(notes), label=label)


def _at(stack: Any) -> str:
    place = next(iter(_user_line(stack)), None)
    return f" ({place.file}:{place.line})" if place is not None else ""


def _user_line(stack: Any) -> tuple[Place, ...]:
    for stood in stack:
        if is_users(stood.frame.f_code.co_filename):
            return (place_at(stood.frame.f_code.co_name, stood.frame.f_code.co_filename, stood.line),)
    return ()
