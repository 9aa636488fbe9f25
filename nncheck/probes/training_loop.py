"""The user's own training step, run a few times as it is written, with everything it does written down."""

from __future__ import annotations

import ast
import gc
import inspect
import textwrap
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, OutOfTime
from nncheck.lab import batch as batches
from nncheck.lab.micro import micro_batches
from nncheck.lab.objective import call_step
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.lab.training import stepped_by_grad
from nncheck.losses.call import loss_call
from nncheck.observe.source import place_at, user_frames, words_of
from nncheck.observe.step_events import Event, Recorder
from nncheck.observe.watch import Call, Watch
from nncheck.registry import probe
from nncheck.verdict import Place

# Calls on quarter batches: two training steps' cost. A step that accumulates has not stepped by then: up to 32 calls are made
# until it has stepped three times, the usual lengths of accumulation being 2 to 16.
CALLS, MOST_CALLS, STEPS = 8, 32, 3


@dataclass(frozen=True, kw_only=True)
class SeenLoss:
    """A loss function that ran: its kind, value and reduction, how many rows its target has, and whether that is the batch's."""

    kind: str
    value: float
    reduction: str
    rows: int
    of_batch: bool


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """One call of the training step on `size` samples: what it did, the model's mode in it, its forward passes and its rate."""

    events: tuple[Event, ...]
    losses: tuple[SeenLoss, ...]
    entered_training: bool
    size: int
    forwards: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class TrainingLoop:
    """What the training step does. given: whether there is one; failure: why it stopped.

    moved: whether a weight of the model changed; written: names of methods that its source calls; mode_matters: whether the
    model has layers that know the mode; kept: how many losses of earlier calls were still held, with their graphs, at the end.
    others_judged: every other optimizer that steps in it has a result of its own.
    """

    given: bool
    calls: tuple[StepCall, ...] = ()
    failure: str = ""
    place: Place | None = None
    moved: bool = False
    written: frozenset[str] = frozenset()
    mode_matters: bool = False
    maximizes: bool = False
    kept: int = 0
    optimizer: str = ""
    scheduler: str = ""
    scheduler_interval: str = ""
    others_judged: bool = False


@probe
def training_loop(sandbox: Sandbox) -> TrainingLoop:
    """Call the step on micro-batches, at least eight times, inside a trial."""
    setup = sandbox.setup
    step = setup.train_step
    if step is None:
        return TrainingLoop(given=False)
    stepped_by_grad(sandbox)
    small = micro_batches(sandbox, CALLS)
    if not small:
        return TrainingLoop(given=True)
    found = _run(sandbox, small)
    if found.failure and batches.size(small[0]) < sandbox.feed.batch_size:
        whole = _run(sandbox, sandbox.feed.take(CALLS))  # a batch size may be written into the step
        return found if whole.failure else whole
    return found


def _run(sandbox: Sandbox, given: list[Any]) -> TrainingLoop:
    setup = sandbox.setup
    step: Any = setup.train_step
    model = sandbox.model
    calls: list[StepCall] = []
    failure, place = "", _made_at(step)
    alive: list[weakref.ref[Tensor]] = []
    with sandbox.trial():
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        recorder = Recorder(model, setup.optimizer, setup.scheduler)
        index = 0
        while index < CALLS or (index < MOST_CALLS and _steps(calls) < STEPS and _may_step(calls, step)):
            batch = given[index % len(given)]
            sandbox.check_time()
            seed_everything(sandbox.seed + 1 + index)
            try:
                calls.append(_one(sandbox, recorder, step, batch, index, alive))
            except (OutOfTime, KeyboardInterrupt, CannotMeasure):
                raise
            except Exception as error:  # noqa: BLE001  # whatever the user's step raises is told in its own words
                failure = f"{type(error).__name__} in call {index + 1}: {words_of(error)}"
                frames = user_frames(error)
                place = frames[-1] if frames else place
                break
            index += 1
        moved = any(not torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)
        gc.collect()
        kept = sum(ref() is not None for ref in alive[:-1])
    return TrainingLoop(
        given=True,
        calls=tuple(calls),
        failure=failure,
        place=place,
        moved=moved,
        written=_written(step),
        mode_matters=any(_knows_mode(m) for m in model.modules()),
        maximizes=any(bool(group.get("maximize")) for group in setup.optimizer.param_groups),
        kept=kept,
        optimizer=type(setup.optimizer).__name__,
        scheduler=type(setup.scheduler).__name__ if setup.scheduler is not None else "",
        scheduler_interval=setup.scheduler_interval or "",
        others_judged=getattr(getattr(step, "onward", None), "number", None) is not None,
    )


def _one(
    sandbox: Sandbox, recorder: Recorder, step: Any, batch: Any, index: int, alive: list[weakref.ref[Tensor]]
) -> StepCall:
    model = sandbox.model
    losses: list[SeenLoss] = []
    entered: list[bool] = []
    targets = {t.data_ptr() for _, t in batches.named_tensors(batches.split(batch)[1])}

    def see_loss(call: Call) -> None:
        found = loss_call(call)
        if found is not None and found.value.numel() == 1:
            of_batch = found.target.data_ptr() in targets or found.target.dtype is torch.long
            value = float(found.value.detach())
            rows = found.target.size(0) if found.target.ndim else 1
            seen = SeenLoss(kind=found.kind, value=value, reduction=found.reduction, rows=rows, of_batch=of_batch)
            losses.append(seen)

    def see_mode(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module is model:
            entered.append(model.training)

    with Watch(model, calls=(see_loss,), modules=(see_mode,)), recorder.watching():
        returned = call_step(step, model, batch, index, parts=sandbox.setup)
    del returned
    alive.extend(weakref.ref(loss) for loss in recorder.losses if loss.grad_fn is not None)
    events = recorder.take()
    share = batches.size(batch) / max(1, sandbox.feed.batch_size)
    backwards = sum(event.kind in ("backward", "gradient") for event in events)
    sandbox.meter.count(forward=share * max(1, len(entered)), backward=share * backwards)
    return StepCall(
        events=events,
        losses=tuple(losses),
        entered_training=entered[0] if entered else model.training,
        size=batches.size(batch),
        forwards=len(entered),
        rate=max((float(group.get("lr", 0.0)) for group in sandbox.optimizer.param_groups), default=0.0),
    )


def _steps(calls: list[StepCall]) -> int:
    return sum(event.kind in ("step", "other-step") for call in calls for event in call.events)


def _may_step(calls: list[StepCall], step: Any) -> bool:
    return bool(_written(step) & {"step"}) or _steps(calls) > 0


def _written(step: Any) -> frozenset[str]:
    """Names of the methods and functions that the step's own source calls."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(step)))
    except (OSError, TypeError, SyntaxError):
        return frozenset()
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return frozenset(f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls)


def _made_at(step: Any) -> Place:
    code = getattr(getattr(step, "__func__", step), "__code__", None)
    name = getattr(step, "__name__", "train_step")
    return place_at(name, code.co_filename, code.co_firstlineno) if code is not None else Place(name=name)


def _knows_mode(module: nn.Module) -> bool:
    kind = type(module).__name__
    rate = getattr(module, "p", 0.0)
    return "BatchNorm" in kind or ("Dropout" in kind and isinstance(rate, float) and rate > 0)
