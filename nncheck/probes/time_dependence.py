"""What each prediction of a sequence model knows of its own answer and of later inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure
from nncheck.lab import batch as batches
from nncheck.lab.alignment import SHORTEST, VALUES, Lag, find_lag, losses_of, predictions
from nncheck.lab.doors import Argument, Change, Passage, other_values, passage, woken_passage
from nncheck.lab.future import Ahead, beyond, first_ahead
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall, place_of
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Outputs that cannot see a change are computed from the same numbers in the same order, so they are equal; sums over masked
# keys may round differently. Healthy causal models gave exactly 0, unmasked ones 0.6 to 1, an off-by-one mask 1e-2.
TOLERANCE = 1e-5
SHOWN = 16
ATTENTION = {"softmax", "scaled_dot_product_attention", "multi_head_attention_forward"}


@dataclass(frozen=True, kw_only=True)
class Followed:
    """One argument of the model whose values the targets are, `lag` positions on.

    sequences: how many of the model's arguments matter and have as many positions. length: positions.
    matters: changing it changes predictions. leak: the largest change of a prediction when inputs from its answer on change,
    relative to the largest prediction. reach: how many positions ahead of the answer's predecessor the leak was seen.
    asked: the positions from which inputs were changed. seen: the leak of each prediction (rows) for each of them (columns).
    causal: no prediction changes with any later input, and `mixes`: predictions do change with earlier ones.
    noisy: the model draws random numbers in its forward pass. ahead: the first call that looks ahead.
    """

    argument: str
    tokens: bool
    lag: int
    share: float
    length: int
    sequences: int
    matters: bool
    leak: float
    reach: int
    asked: tuple[int, ...]
    rows: tuple[int, ...]
    seen: tuple[tuple[float, ...], ...]
    causal: bool
    mixes: bool
    noisy: bool
    ahead: Ahead | None


@dataclass(frozen=True, kw_only=True)
class Window:
    """A regression target that stands in the input itself, in the last step of its window."""

    argument: str
    steps: int
    share: float
    column: str


@dataclass(frozen=True, kw_only=True)
class TimeDependence:
    """What was found for the losses of the first batch. arguments: names of sequences given to the model; loss: the call."""

    arguments: tuple[str, ...]
    loss: str
    place: Place
    followed: tuple[Followed, ...]
    window: Window | None


@probe
def time_dependence(sandbox: Sandbox) -> TimeDependence:
    """A forward pass to find how targets follow inputs; if they do, one more for each of up to five positions."""
    batch = sandbox.feed.first
    base = woken_passage(sandbox, batch)
    assert base.outcome is not None
    calls = losses_of(base, batch)
    size = batches.size(batch)
    sequences = [a for a in base.arguments if _may_have_time(a.tensor, size)]
    if not sequences or not calls:
        raise CannotMeasure(
            "the model is given no sequence" if not sequences else "what is predicted cannot be told from the loss"
        )
    size = batches.size(batch)
    pairs = [
        (call, lag)
        for call in calls
        for a in sequences
        if (lag := find_lag(a.index, a.tensor, call, samples=size)) is not None
    ]
    followed = [_follow(sandbox, batch, base, call, lag, k, sequences) for k, (call, lag) in _few(calls, pairs)]
    window = None
    if not pairs:
        window = next((w for call in calls for a in sequences if (w := _window(a, call)) is not None), None)
    return TimeDependence(
        arguments=tuple(dict.fromkeys(a.name or "the input" for a in sequences)),
        loss=calls[0].kind,
        place=place_of(calls[0], sandbox.setup.origins),
        followed=tuple(followed),
        window=window,
    )


def _may_have_time(tensor: Tensor, samples: int) -> bool:
    """Whether an argument has an axis besides the batch's that is long enough to be time."""
    return tensor.ndim >= 2 and any(n >= SHORTEST and (d > 0 or n != samples) for d, n in enumerate(tensor.shape[:3]))


def _few(calls: tuple[LossCall, ...], pairs: list[tuple[LossCall, Lag]]) -> list[tuple[int, tuple[LossCall, Lag]]]:
    """The pairs to look into, each with the number of its loss: one loss, all arguments it follows."""
    positive = [(call, lag) for call, lag in pairs if lag.lag == 1] or [
        (call, lag) for call, lag in pairs if lag.lag > 0
    ]
    chosen = positive or pairs
    if not chosen:
        return []
    first = chosen[0][0]
    number = next(k for k, call in enumerate(calls) if call is first)
    # A second argument that holds the answers at another lag matters too: a decoder beside its encoder.
    return [(number, (call, lag)) for call, lag in pairs if call is first and lag.lag >= 0][:3]


def _follow(
    sandbox: Sandbox, batch: Any, base: Passage, call: LossCall, lag: Lag, number: int, sequences: list[Argument]
) -> Followed:
    argument = next(a for a in base.arguments if a.index == lag.argument)
    before = predictions(call, lag)
    scale = before[before.isfinite()].abs().max().double().clamp_min(1e-30) if before.numel() else 1.0
    # What a prompt's positions say is not counted: they may look at all of the prompt.
    counted = torch.ones(lag.shape, dtype=torch.bool, device=before.device)
    if lag.tokens:
        counted = (call.target.detach() != call.options.get("ignore_index", -100)).reshape(lag.shape)
    limit = max(TOLERANCE, 8 * torch.finfo(before.dtype).eps)
    length = lag.length
    asked = sorted({max(lag.lag, 1), length // 4, length // 2, 3 * length // 4, length - 1})
    asked = [p for p in asked if max(lag.lag, 1) <= p < length]
    columns: list[Tensor] = []
    for p in asked:
        after = _predicted(sandbox, batch, _later(argument, lag.axis, p), number, lag)
        columns.append(_by_time(beyond(before, after, scale) * counted[..., None].to(before.device), lag.axis))
    times = torch.arange(len(columns[0]))
    # The answer to prediction t stands at t + lag: what is changed from p on may move no prediction whose answer is at p or before.
    leaks = [column[times + lag.lag <= p] for p, column in zip(asked, columns, strict=True)]
    leak = max((float(found.max()) for found in leaks if len(found)), default=0.0)
    reach = 0
    for p, found in zip(asked, leaks, strict=True):
        moved = (found > limit).nonzero().flatten()
        if len(moved):
            reach = max(reach, p - lag.lag - int(moved[0]) + 1)
    causal = all(bool((column[times < p] <= limit).all()) for p, column in zip(asked, columns, strict=True))
    matters = any(bool((column > limit).any()) for column in columns)
    mixes = False
    if causal and matters and lag.lag == 0:
        mixes = _looks_back(sandbox, batch, argument, lag, number, before, scale, limit)
    ahead = None
    if matters and leak > limit:
        p = next(p for p, found in zip(asked, leaks, strict=True) if len(found) and float(found.max()) > limit)
        change = _later(argument, lag.axis, p)
        ahead = first_ahead(sandbox, batch, change, length=length, position=p, tolerance=limit)
        if ahead is None and lag.shape[lag.axis] != length:  # cut to the targets' length inside the model
            short = lag.shape[lag.axis]
            ahead = first_ahead(sandbox, batch, change, length=short, position=min(p, short), tolerance=limit)
    rows = sorted({round(i * (len(times) - 1) / (SHOWN - 1)) for i in range(SHOWN)})
    return Followed(
        argument=argument.name or "the input",
        tokens=lag.tokens,
        lag=lag.lag,
        share=lag.share,
        length=length,
        sequences=_that_matter(sandbox, batch, argument, lag, sequences, number, before, scale, limit),
        matters=matters,
        leak=leak if leak > limit else 0.0,
        reach=reach,
        asked=tuple(asked),
        rows=tuple(rows),
        seen=tuple(tuple(min(1.0, float(column[t])) for column in columns) for t in rows),
        causal=causal,
        mixes=mixes,
        noisy=_draws(sandbox, batch) if leak > limit else False,
        ahead=ahead,
    )


def _predicted(sandbox: Sandbox, batch: Any, change: Change, number: int, lag: Lag) -> Tensor:
    calls = losses_of(woken_passage(sandbox, batch, change=change), batch)
    if number >= len(calls):
        raise CannotMeasure("the model computes another loss when its inputs change")
    return predictions(calls[number], lag)


def _by_time(moved: Tensor, axis: int) -> Tensor:
    """The largest change at each position."""
    return moved.movedim(axis, 0).flatten(1).amax(1).cpu()


def _later(argument: Argument, axis: int, start: int, stop: int | None = None) -> Change:
    """Other values at the positions from `start` on; tokens are taken from those of the batch."""
    values = other_values(argument.tensor)
    where = torch.arange(argument.tensor.size(axis), device=values.device)
    later = (where >= start) if stop is None else (where >= start) & (where < stop)
    shape = [-1 if d == axis else 1 for d in range(values.ndim)]

    def change(index: int, tensor: Tensor) -> Tensor:
        return torch.where(later.view(shape), values, tensor) if index == argument.index else tensor

    return change


def _looks_back(
    sandbox: Sandbox, batch: Any, argument: Argument, lag: Lag, number: int, before: Tensor, scale: Any, limit: float
) -> bool:
    middle = lag.length // 2
    after = _predicted(sandbox, batch, _later(argument, lag.axis, 0, middle), number, lag)
    moved = _by_time(beyond(before, after, scale), lag.axis)
    return bool((moved[middle:] > limit).any())


def _that_matter(
    sandbox: Sandbox, batch: Any, argument: Argument, lag: Lag, sequences: list[Argument], number: int,
    before: Tensor, scale: Any, limit: float,
) -> int:  # fmt: skip
    """How many sequences of tokens or numbers, masks aside, the predictions depend on; asked only where it decides."""
    if lag.lag != 0:
        return 1
    count = 1
    for other in sequences:
        if other.index == argument.index or other.tensor.dtype is torch.bool or "mask" in other.name:
            continue
        after = _predicted(sandbox, batch, _later(other, 1, 0), number, lag)
        count += bool((beyond(before, after, scale) > limit).any())
    return count


def _draws(sandbox: Sandbox, batch: Any) -> bool:
    """Whether the model draws random numbers as a variational autoencoder does, dropout aside."""
    seen: set[str] = set()

    def note(call: Call) -> None:
        if call.name in ("randn_like", "randn", "normal", "normal_", "rsample"):
            seen.add(call.name)

    with sandbox.trial():
        passage(sandbox, batch, calls=(note,))
    return bool(seen)


def _window(argument: Argument, call: LossCall) -> Window | None:
    """Whether a target of a few numbers a sample equals a number of the input's last step."""
    given, target = argument.tensor, call.target.detach()
    if call.kind not in VALUES or not given.is_floating_point() or given.ndim not in (2, 3):
        return None
    samples = given.size(0)
    if samples < 16 or not target.ndim or target.size(0) != samples or target.numel() // samples > 64:
        return None
    columns = target.reshape(samples, -1).double()
    if columns.size(1) >= given.size(1) or bool(columns.std(0).min() == 0):
        return None
    last = given[:, -1].reshape(samples, -1)[:, :64].double() if given.ndim == 3 else given[:, -1:].double()
    for k, column in enumerate(columns.unbind(1)):
        slack = 1e-6 * float(column.abs().max())
        same = ((last - column[:, None]).abs() <= slack).double().mean(0)
        if float(same.max()) > 0.99 and column.sort().values.diff().count_nonzero() > samples // 2:
            return Window(
                argument=argument.name or "the input",
                steps=given.size(1),
                share=float(same.max()),
                column=f"channel {int(same.argmax())}" if given.ndim == 3 else f"target {k}",
            )
    return None
