"""One training step as the user would take it: does it run, what does it give, is everything finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import LossCall
from nncheck.observe.norms import peaks
from nncheck.observe.source import layer_place
from nncheck.registry import probe
from nncheck.verdict import Place

# Losses whose two arguments have different parts to play; a squared or absolute error is the same either way round, and a
# KL divergence is used both ways round on purpose.
_ORDERED = frozenset({"cross-entropy", "nll", "bce", "bce-with-logits", "multi-margin"})


@dataclass(frozen=True, kw_only=True)
class FirstStep:
    """The first forward and backward pass in train mode.

    loss: its value. connected: whether it has a gradient. batch, output: what went in and came out, in words.
    swapped: a loss call whose first argument is data and whose second carries the gradient, and where.
    bad_parameters, bad_buffers, bad_gradients: names of tensors that hold NaN or Inf.
    bad_layer: the first layer whose output is not finite although its inputs are.
    ignore_index: of the loss, if it has one.
    single: what happens when the epoch's last batch has one sample ("" if all is well or no batch is that small).
    single_raises: whether that is an error, and not only an output of another shape.
    """

    loss: float
    connected: bool
    batch: str
    output: str
    losses: tuple[str, ...]
    loss_place: Place | None
    bad_parameters: tuple[str, ...]
    bad_layer: Place | None
    bad_gradients: tuple[str, ...]
    bad_buffers: tuple[str, ...] = ()
    swapped: str = ""
    swapped_place: Place | None = None
    ignore_index: int | None = None
    single: str = ""
    single_raises: bool = False
    single_place: Place | None = None


@probe
def first_step(sandbox: Sandbox) -> FirstStep:
    """One forward and one backward on the first batch; one sample more if the epoch ends on a batch of one."""
    batch = sandbox.feed.first
    bad: list[Place] = []

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not bad and not finite(output) and finite(inputs):
            bad.append(layer_place(sandbox.model, name or type(module).__name__, detail=type(module).__name__))

    with sandbox.trial():
        try:
            outcome = sandbox.forward(batch, modules=(look,))
        except TargetError as error:
            raise _rows_differ(sandbox, batch, error) from error
        connected = outcome.loss.requires_grad
        if connected:
            sandbox.backward(outcome.loss, batch)
        named = [(n, p) for n, p in sandbox.model.named_parameters() if not nn.parameter.is_lazy(p)]
        swapped = next((call for call in outcome.calls if _swapped(call)), None)
        ignored = [c.options["ignore_index"] for c in outcome.calls if "ignore_index" in c.options]
        found = FirstStep(
            loss=float(outcome.loss.detach()),
            connected=connected,
            batch=batches.describe(batch),
            output="nothing seen" if outcome.output is None else batches.describe(outcome.output),
            losses=tuple(call.kind for call in outcome.calls),
            loss_place=outcome.calls[-1].place if outcome.calls else None,
            bad_parameters=_bad(named),
            bad_layer=bad[0] if bad else None,
            bad_gradients=_bad([(n, p.grad) for n, p in named if p.grad is not None]),
            bad_buffers=_bad([(n, b) for n, b in sandbox.model.named_buffers() if b.is_floating_point()]),
            swapped="" if swapped is None else swapped.kind,
            swapped_place=None if swapped is None else swapped.place,
            ignore_index=ignored[0] if ignored else None,
        )
    if not _ends_on_one(sandbox):
        return found
    single, place, raises = _one_sample(sandbox, batch, outcome.output)
    return replace(found, single=single, single_place=place, single_raises=raises)


def finite(value: Any) -> bool:
    """Whether every floating-point tensor in a value is free of NaN and Inf."""
    return all(
        bool(torch.isfinite(t.detach()).all())
        for _, t in batches.named_tensors(value)
        if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex()) and t.layout is torch.strided
    )


def _bad(named: Sequence[tuple[str, Tensor]]) -> tuple[str, ...]:
    values = peaks([t for _, t in named])
    return tuple(n for (n, _), peak in zip(named, values, strict=True) if peak is not None and not abs(peak) < _INF)


_INF = float("inf")


def _swapped(call: LossCall) -> bool:
    return call.kind in _ORDERED and not call.input.requires_grad and call.target.requires_grad


def _rows_differ(sandbox: Sandbox, batch: Any, error: TargetError) -> TargetError:
    """The same error; if the model's output has another number of rows than the batch, with that said."""
    try:
        output = sandbox.predict(batch)
    except (TargetError, CannotMeasure):
        return error
    rows = [t.size(0) for _, t in batches.named_tensors(output) if t.ndim]
    size = batches.size(batch)
    if not rows or size in rows:
        return error
    said = f"the model makes {rows[0]} rows of {size} samples: look for a view, reshape, flatten or cat on dimension 0"
    return TargetError(error.message, places=error.places, detail=error.detail, help=error.help or said)


def _ends_on_one(sandbox: Sandbox) -> bool:
    """Whether the last batch of an epoch holds a single sample."""
    loader = sandbox.setup.train_loader
    size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
    if not isinstance(size, int) or size < 2 or getattr(loader, "drop_last", True) or sampler is None:
        return False
    try:
        return len(sampler) % size == 1 and batches.size(sandbox.feed.first) == size
    except TypeError:  # a sampler without a length
        return False


def _one_sample(sandbox: Sandbox, batch: Any, usual: Any) -> tuple[str, Place | None, bool]:
    """What a batch of one does in train mode: an error, or an output with other dimensions than `usual`."""
    one = batches.take(batch, torch.zeros(1, dtype=torch.long))
    try:
        with sandbox.trial():
            output = sandbox.forward(one).output
    except TargetError as error:
        return error.message, error.places[-1] if error.places else None, True
    pairs = zip(batches.named_tensors(usual), batches.named_tensors(output), strict=False)
    for (_, many), (_, single) in pairs:
        if many.ndim != single.ndim:
            return f"the output is {batches.describe_tensor(single)} instead of {many.ndim} dimensions", None, False
    return "", None, False
