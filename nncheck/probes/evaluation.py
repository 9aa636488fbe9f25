"""The model as it is validated: the same batch passed several times in eval mode, and what ran meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.modes import switches_mode
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.plain_state import Kept, differing, kept_state
from nncheck.observe.randomness import Randomness, RandomUse, meant_by_model, running_module
from nncheck.observe.source import class_place, is_users, place_at
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place


@dataclass(frozen=True, kw_only=True)
class BatchStatistics:
    """A BatchNorm that takes its statistics from the batch in eval mode.

    because: "untracked" it keeps none (`track_running_stats=False`); "stray" its module belongs to no module of the model;
    "stuck" its module is in train mode; "functional" `F.batch_norm(training=True)`.
    """

    layer: str
    because: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class KeptState:
    """Something that a pass in eval mode changed. registered: a buffer. whole: nearly all of its values changed."""

    name: str
    registered: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What passes of one batch in eval mode gave.

    seeds: how far outputs under two seeds are apart, relative to their size. again, further: the same for a second pass under
    the same seed, and for a third, after the same samples in reverse order, against the second; None where it was not asked.
    exact: whether equal passes give equal numbers, to the last bit, on this device.
    stuck: whether `model.eval()` leaves the model itself in train mode; unreached: whether `model.train()` after it leaves every
    layer in eval mode. methods: where the model's class overrides them. meant: words in its class that randomness is meant.
    supervised: whether a loss compares the output with a target of the batch. shuffled: whether samples come in random order.
    """

    seeds: float
    again: float
    further: float | None
    exact: bool
    stuck: bool
    unreached: bool
    methods: Place
    meant: str
    random: tuple[RandomUse, ...]
    rates: tuple[tuple[str, float, Place], ...]
    statistics: tuple[BatchStatistics, ...]
    state: tuple[KeptState, ...]
    shuffled: bool
    supervised: bool


@probe
def evaluation(sandbox: Sandbox) -> Evaluation:
    """Two passes under one seed and one under another, all in eval mode; one more where the first two differ."""
    batch = sandbox.feed.first
    stuck, unreached = _modes(sandbox)
    statistics: dict[str, BatchStatistics] = {}
    registered = {id(module) for module in sandbox.model.modules()}

    def see_statistics(call: Call) -> None:
        if call.module is not None and call.function is F.batch_norm and _trains(call):
            layer = call.layer or type(call.module).__name__
            because = _why(call.module, registered)
            if because:
                statistics.setdefault(layer, BatchStatistics(layer=layer, because=because, place=call.place()))

    supervised: list[bool] = []
    target = {t.data_ptr() for _, t in batches.named_tensors(batches.split(batch)[1])}
    with sandbox.trial(mode="eval"), held_in_eval(sandbox.model):
        seen = Randomness(sandbox.model)
        outcome = sandbox.forward(batch, calls=(seen, see_statistics))
        supervised.extend(call.target.data_ptr() in target or call.target.dtype is torch.long for call in outcome.calls)
        first = kept_output(outcome.output)
        if not first:
            raise CannotMeasure("the step never calls the model itself, so its output is not seen")
        before = kept_state(sandbox.model)
        seed_everything(sandbox.seed)
        second = kept_output(sandbox.forward(batch).output)
        state = _changes(before, kept_state(sandbox.model))
        again = distance(first, second)
        further = None
        if again > 0:
            seed_everything(sandbox.seed)
            sandbox.forward(batches.take(batch, torch.arange(batches.size(batch)).flip(0)))
            # The same batch may leave the same behind: what another one leaves tells.
            state = _changes(before, kept_state(sandbox.model))
            seed_everything(sandbox.seed)
            further = distance(second, kept_output(sandbox.forward(batch).output))
        seed_everything(sandbox.seed + 1)
        other = kept_output(sandbox.forward(batch).output)
    return Evaluation(
        seeds=distance(second, other),
        again=again,
        further=further,
        exact=sandbox.device.type == "cpu",
        stuck=stuck,
        unreached=unreached,
        methods=_overridden(sandbox.model),
        meant=meant_by_model(sandbox.model),
        random=tuple(seen.uses),
        rates=tuple((name, rate, place) for name, (rate, place) in seen.rates.items()),
        statistics=tuple(statistics.values()),
        state=state,
        shuffled=_shuffled(sandbox.setup.train_loader),
        supervised=any(supervised),
    )


@contextmanager
def held_in_eval(model: nn.Module) -> Iterator[None]:
    """A step that begins with `model.train()` would undo the mode under test. The trial takes the attribute away again."""
    if not switches_mode(model):
        yield
        return
    vars(model)["train"] = lambda mode=True: model
    try:
        yield
    finally:
        vars(model).pop("train", None)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between two outputs relative to the largest value; NaN counts as equal to NaN."""
    worst = 0.0
    for name, a in one.items():
        b = other.get(name)
        if b is None or b.shape != a.shape:
            return float("inf")
        if not a.numel():
            continue
        x, y = torch.nan_to_num(a.double()), torch.nan_to_num(b.double())
        size = max(float(x.abs().max()), float(y.abs().max()))
        if size > 0:
            worst = max(worst, float((x - y).abs().max()) / size)
    return worst


def kept_output(output: Any) -> dict[str, Tensor]:
    """The floating-point tensors of a model's output, copied."""
    return {
        name: t.detach().clone()
        for name, t in batches.named_tensors(output)
        if t.is_floating_point() and not t.is_sparse
    }


def _modes(sandbox: Sandbox) -> tuple[bool, bool]:
    """What the user's own `eval()` and `train()` do to the flags."""
    model = sandbox.model
    if not switches_mode(model):
        return False, False
    with sandbox.trial():
        before = {id(m) for m in model.modules() if m is not model and m.training}
        model.eval()
        stuck = model.training
        model.train()
        after = {id(m) for m in model.modules() if m is not model and m.training}
    return stuck, bool(before) and not after


def _overridden(model: nn.Module) -> Place:
    kind = type(model)
    for name in ("train", "eval"):
        method = getattr(kind, name)
        code = getattr(method, "__code__", None)
        if code is not None and method is not getattr(nn.Module, name) and is_users(code.co_filename):
            return place_at(f"{kind.__name__}.{name}", code.co_filename, code.co_firstlineno)
    return class_place(model, kind.__name__)


def _trains(call: Call) -> bool:
    given = call.kwargs.get("training", call.args[5] if len(call.args) > 5 else False)
    return bool(given)


def _why(module: nn.Module, registered: set[int]) -> str:
    """Why a batch norm is training in eval mode; "" if that is a library's doing."""
    owner = running_module()
    if owner is None:
        return "functional"
    if id(owner) not in registered:
        return "stray"
    if owner.training:
        return "stuck"
    return "untracked" if getattr(owner, "running_mean", True) is None else ""


def _changes(before: dict[str, Kept], after: dict[str, Kept]) -> tuple[KeptState, ...]:
    changed = []
    for name, old, new in differing(before, after):
        whole = True
        if isinstance(old.value, Tensor) and isinstance(new.value, Tensor) and old.value.shape == new.value.shape:
            whole = float((old.value != new.value).double().mean()) > 0.5
        changed.append(KeptState(name=name, registered=new.buffer, whole=whole))
    return tuple(changed)


def _shuffled(loader: Any) -> bool:
    return isinstance(getattr(loader, "sampler", None), torch.utils.data.RandomSampler)
