"""How the targets of a loss follow the model's inputs in time: shifted by how many positions, told by comparing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.doors import Passage
from nncheck.losses.call import CLASSIFICATION, LossCall
from nncheck.verdict import Place

# Positions a target may lie ahead of (or, negative, behind) the input at its place.
LAGS = range(-2, 5)
# Nearly every target equals the input so many positions on: next-token data gives exactly 1. A second lag that fits as well
# (constant or periodic sequences) leaves it open.
FITS, SECOND = 0.99, 0.9
# Shorter sequences have too few positions to tell a shift from a coincidence.
SHORTEST = 3
FEWEST = 24
VALUES = ("mse", "l1", "smooth-l1", "huber")


@dataclass(frozen=True, kw_only=True)
class Lag:
    """Targets equal an argument's values `lag` positions on.

    argument: its number. axis: the argument's time axis. length: of that axis. shape: the targets' own, time at `axis`.
    tokens: integers compared with class labels. share: of the targets that agree.
    """

    argument: int
    axis: int
    length: int
    shape: tuple[int, ...]
    lag: int
    tokens: bool
    share: float


def find_lag(index: int, given: Tensor, call: LossCall, *, samples: int) -> Lag | None:
    """The one shift under which the targets of a loss equal an argument of the model; None if there is none, or several.

    `samples`: in the batch; an axis as long as that is taken for time only if the other is not time either."""
    target = call.target.detach()
    if not target.numel() or given.ndim < 2:
        return None
    tokens = not (given.is_floating_point() or given.is_complex() or given.dtype is torch.bool)
    if tokens:
        if call.kind not in CLASSIFICATION or target.is_floating_point() or given.ndim != 2:
            return None
        ignored = call.options.get("ignore_index", -100)
        return _best(index, given.detach(), target, ignored=ignored, samples=samples)
    if call.kind not in VALUES or not given.is_floating_point() or given.ndim > 3:
        return None
    return _best(index, given.detach(), target, ignored=None, samples=samples)


def predictions(call: LossCall, lag: Lag) -> Tensor:
    """What the loss was given, as (..., time at `lag.axis`, ..., entries)."""
    values = call.input.detach()
    if lag.tokens:
        rows = values.movedim(1, -1).reshape(-1, values.size(1)) if values.ndim > 1 else values[None]
        return rows.reshape(*lag.shape, rows.size(-1))
    return values.reshape(*lag.shape, -1)


def losses_of(seen: Passage, batch: Any) -> tuple[LossCall, ...]:
    """The losses that were called; for one written by hand, the output and the target as such losses take them."""
    outcome = seen.outcome
    assert outcome is not None
    _, target = batches.split(batch)
    output = outcome.output
    if (
        outcome.calls
        or not isinstance(output, Tensor)
        or not isinstance(target, Tensor)
        or not output.is_floating_point()
    ):
        return outcome.calls
    if target.is_floating_point():
        kind = "mse"
        fits = output.shape == target.shape
    else:
        kind = "cross-entropy"
        fits = target.ndim > 0 and output.ndim > 1 and output.numel() == target.numel() * output.size(-1)
        output, target = output.reshape(-1, output.size(-1)), target.reshape(-1)
    if not fits:
        return ()
    place = Place(name="loss")
    function = torch.nn.functional.mse_loss if kind == "mse" else torch.nn.functional.cross_entropy
    call = LossCall(
        kind=kind, function=function, input=output, target=target, value=outcome.loss, place=place, layer=""
    )
    return (call,)


def _best(index: int, given: Tensor, target: Tensor, *, ignored: int | None, samples: int) -> Lag | None:
    found: list[Lag] = []
    tokens = ignored is not None
    for axis in (0, 1) if given.ndim == 2 else (1, 2):
        length = given.size(axis)
        if length < SHORTEST:
            continue
        for missing in (0, 1, 2):
            shape = _shape(given, target, axis, length - missing, tokens=tokens)
            if shape is None:
                continue
            shares = {lag: _share(given, target.reshape(shape), axis, lag, ignored=ignored) for lag in LAGS}
            ranked = sorted(shares.items(), key=lambda item: -item[1])
            if ranked[0][1] > FITS and ranked[1][1] < SECOND:
                best = ranked[0]
                found.append(
                    Lag(
                        argument=index, axis=axis, length=length, shape=shape[:2] if tokens else shape, lag=best[0],
                        tokens=tokens, share=best[1],
                    )
                )  # fmt: skip
    # Equal place by place is equal along both axes, and windows that follow each other match along the batch too.
    plain = [lag for lag in found if given.size(lag.axis) != samples or (given.ndim == 2 and lag.axis == 1)]
    if len(plain) == 1:
        return plain[0]
    return found[0] if len(found) == 1 and found[0].lag != 0 else None


def _shape(given: Tensor, target: Tensor, axis: int, length: int, *, tokens: bool) -> tuple[int, ...] | None:
    """The form in which targets lie beside the argument, if they are as many."""
    if length < SHORTEST - 1:
        return None
    sizes = list(given.shape)
    sizes[axis] = length
    if tokens or given.ndim == 2:
        return tuple(sizes) if target.numel() == sizes[0] * sizes[1] else None
    # Some of the channels, or one, may be the target.
    channel = 3 - axis
    rest = sizes[0] * length
    if target.numel() % rest or target.ndim < 2 or target.size(0) != sizes[0]:
        return None
    sizes[channel] = target.numel() // rest
    if target.ndim == 3 and tuple(target.shape) != tuple(sizes):
        return None
    return tuple(sizes)


def _share(given: Tensor, target: Tensor, axis: int, lag: int, *, ignored: int | None) -> float:
    length = given.size(axis)
    start, stop = max(0, -lag), min(target.size(axis), length - lag)
    if stop <= start:
        return 0.0
    wanted = target.narrow(axis, start, stop - start)
    there = given.narrow(axis, start + lag, stop - start)
    if ignored is not None:
        counted = wanted != ignored
        number = int(counted.sum())
        return float((wanted == there)[counted].double().mean()) if number >= FEWEST else 0.0
    if wanted.numel() < FEWEST:
        return 0.0
    wanted, there = wanted.double(), there.double()
    slack = 1e-6 * float(there.abs().max())
    if wanted.ndim == 2:
        return float(((wanted - there).abs() <= slack).double().mean())
    # Each target channel is looked for among the input's.
    channel = 3 - axis
    agree = []
    number = wanted.size(channel)
    for k in {round(i * (number - 1) / 7) for i in range(8)}:  # the last among them
        one = wanted.select(channel, k)
        agree.append(max(float(((one - other).abs() <= slack).double().mean()) for other in there.unbind(channel)[:64]))
    return min(agree, default=0.0)
