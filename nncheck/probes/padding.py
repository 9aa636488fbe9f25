"""Whether the padding of a batch of sequences changes what the model says of the sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncheck.errors import TargetError
from nncheck.lab import batch as batches
from nncheck.lab.doors import Passage, woken_passage
from nncheck.lab.future import beyond
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.source import layer_place, located
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

SHORTEST = 4
# Where results are compared call by call: at most this much memory.
KEPT_BYTES = 256 << 20
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@dataclass(frozen=True, kw_only=True)
class Padding:
    """How a batch says where its sequences end.

    by: a mask or lengths in the batch, or only a token at the end that an embedding knows as padding.
    steps: the padded length; shortest, share: the shortest sequence and the part of the batch that is padding.
    """

    by: Literal["mask", "lengths", "token"]
    name: str
    steps: int
    shortest: int
    share: float


@dataclass(frozen=True, kw_only=True)
class PaddingRuns:
    """The shorter sequences of the first batch with all of their padding and with less of it, in eval mode.

    padding: None if the batch holds none that can be told. kept: the padded length in the second run. samples: compared.
    moved: the largest change of an output that belongs to a sequence, relative to the largest; None if the model does not run
    with less padding. function, place: the first call whose result changes where there is no padding.
    """

    padding: Padding | None
    kept: int
    samples: int
    moved: float | None
    function: str
    place: Place | None


@probe
def padding_runs(sandbox: Sandbox) -> PaddingRuns:
    """Two forward passes of the shorter half of a padded batch."""
    batch = sandbox.feed.first
    size = batches.size(batch)
    nothing = PaddingRuns(padding=None, kept=0, samples=0, moved=None, function="", place=None)
    found = next(_paddings(sandbox, batch, size), None) if size >= 2 else None
    if found is None:
        return nothing
    padding, lengths = found
    kept = int(lengths.sort().values[(size - 1) // 2])
    kept = min(max(kept, SHORTEST), padding.steps - 1)
    chosen = (lengths <= kept).nonzero().flatten()
    if not len(chosen):
        return PaddingRuns(padding=padding, kept=kept, samples=0, moved=None, function="", place=None)
    long = batches.take(batch, chosen)
    short = _cut(long, len(chosen), padding.steps, kept)
    told = PaddingRuns(padding=padding, kept=kept, samples=len(chosen), moved=None, function="", place=None)
    inside = torch.arange(kept, device=lengths.device) < lengths[chosen][:, None]
    with suppress(TargetError):
        before, after = woken_passage(sandbox, long), woken_passage(sandbox, short)
        moved = _moved(before, after, inside, padding.steps)
        if moved is None or moved == 0:
            return PaddingRuns(padding=padding, kept=kept, samples=len(chosen), moved=moved, function="", place=None)
        function, place = _first(sandbox, long, short, inside, padding.steps)
        return PaddingRuns(padding=padding, kept=kept, samples=len(chosen), moved=moved, function=function, place=place)
    return told


def _paddings(sandbox: Sandbox, batch: Any, size: int) -> Iterator[tuple[Padding, Tensor]]:
    """Ways in which the batch says where its sequences end, the plainest first, with the lengths."""
    inputs, _ = batches.split(batch)
    tensors = [(n, t) for n, t in batches.named_tensors(inputs) if t.ndim and t.size(0) == size]
    sequences = [(n, t) for n, t in tensors if t.ndim in (2, 3) and t.size(1) >= SHORTEST]
    for name, tensor in sequences:
        # A mask alone is an input like any other: what it masks lies beside it, and is one and the same value where it is masked.
        for lengths in _from_mask(tensor) if tensor.ndim == 2 else ():
            beside = [t for _, t in sequences if t is not tensor and t.size(1) == tensor.size(1)]
            if any(_ends_at(t, lengths) for t in beside):
                yield _padding("mask", name, tensor.size(1), lengths), lengths
    for name, tensor in tensors:
        if tensor.ndim == 1 and not tensor.is_floating_point() and tensor.dtype is not torch.bool:
            for _, sequence in sequences:
                if _ends_at(sequence, tensor):
                    yield _padding("lengths", name, sequence.size(1), tensor), tensor
    for name, tensor in sequences:
        if tensor.ndim != 2 or tensor.is_floating_point() or tensor.dtype is torch.bool:
            continue
        token = int(tensor[tensor[:, -1] == tensor[:, -1].mode().values][0, -1])
        padded = tensor == token
        lengths = (~padded).sum(1)
        if not _prefix(~padded, lengths) or len(set(lengths.tolist())) < 2 or int(lengths.min()) < 1:
            continue
        if token in _known_as_padding(sandbox, batch):
            yield _padding("token", name, tensor.size(1), lengths), lengths


def _known_as_padding(sandbox: Sandbox, batch: Any) -> set[int]:
    """Tokens the model treats apart: `padding_idx`, a configuration's `pad_token_id`, or a number that ids are compared with."""
    known = {
        m.padding_idx for m in sandbox.model.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None
    }
    configured = getattr(getattr(sandbox.model, "config", None), "pad_token_id", None)
    if isinstance(configured, int):
        known.add(configured)

    def see(call: Call) -> None:
        if call.name in ("eq", "ne", "__eq__", "__ne__", "gt", "__gt__") and len(call.args) == 2:
            given, other = call.args
            if isinstance(given, Tensor) and not given.is_floating_point() and given.ndim == 2 and type(other) is int:
                known.add(other)

    with suppress(TargetError):
        woken_passage(sandbox, batch, calls=(see,))
    return known


def _padding(by: Literal["mask", "lengths", "token"], name: str, steps: int, lengths: Tensor) -> Padding:
    share = 1 - float(lengths.double().mean()) / steps
    return Padding(by=by, name=name or "the input", steps=steps, shortest=int(lengths.min()), share=share)


def _from_mask(tensor: Tensor) -> Iterator[Tensor]:
    """Lengths, if a tensor holds only two values and every row is a run of one and then of the other; of either meaning."""
    if tensor.is_complex() or not bool(((tensor == 0) | (tensor == 1)).all()):
        return
    for valid in (tensor != 0, tensor == 0):
        lengths = valid.sum(1)
        padded = bool((lengths < tensor.size(1)).any())
        if padded and int(lengths.min()) > 0 and len(set(lengths.tolist())) > 1 and _prefix(valid, lengths):
            yield lengths


def _prefix(valid: Tensor, lengths: Tensor) -> bool:
    where = torch.arange(valid.size(1), device=valid.device)
    return torch.equal(valid, where < lengths[:, None])


def _ends_at(sequence: Tensor, lengths: Tensor) -> bool:
    """Whether every sequence holds one and the same value after its length, and something else at it."""
    steps = sequence.size(1)
    if int(lengths.min()) < 1 or int(lengths.max()) > steps or not bool((lengths < steps).any()):
        return False
    outside = torch.arange(steps, device=sequence.device) >= lengths.to(sequence.device)[:, None]
    rest = sequence[outside]
    last = sequence[torch.arange(len(lengths)), lengths.to(sequence.device).long() - 1]
    return bool((rest == rest.flatten()[0]).all()) and bool(
        (last != rest.flatten()[0]).flatten(1 if last.ndim > 1 else 0).any()
    )


def _cut(batch: Any, samples: int, steps: int, kept: int) -> Any:
    """The batch with less padding: every tensor of samples by steps loses its end."""

    def shorten(tensor: Tensor) -> Tensor:
        timed = tensor.ndim >= 2 and tensor.size(0) == samples and tensor.size(1) == steps
        return tensor[:, :kept] if timed else tensor

    return batches.map_tensors(shorten, batch)


def _moved(before: Passage, after: Passage, inside: Tensor, steps: int) -> float | None:
    """The largest change of what belongs to the sequences; None if nothing can be compared."""
    worst: float | None = None
    if len(before.outputs) != len(after.outputs):
        return None
    for (_, long), (_, short) in zip(before.outputs, after.outputs, strict=True):
        change = _change(long, short, inside, steps)
        if change is not None:
            worst = change if worst is None else max(worst, change)
    return worst


def _change(long: Tensor, short: Tensor, inside: Tensor, steps: int) -> float | None:
    """How far one result moved: of a sequence of results the part that is no padding."""
    samples, kept = inside.shape
    if long.ndim < 2 or short.ndim != long.ndim:
        return None
    if long.size(0) != samples and long.size(0) == steps and long.size(1) == samples:  # time first
        return _change(long.transpose(0, 1), short.transpose(0, 1), inside, steps)
    if long.size(0) != samples or short.size(0) != samples:
        return None
    finite = long[long.isfinite()]
    if not finite.numel():
        return None
    scale = finite.abs().max().double().clamp_min(1e-30)
    if long.shape == short.shape:
        return float(beyond(long, short, scale).max()) if kept not in long.shape[1:] else None
    axes = [d for d in range(1, long.ndim) if long.size(d) == steps and short.size(d) == kept]
    same = [d for d in range(1, long.ndim) if d not in axes]
    if len(axes) != 1 or any(long.size(d) != short.size(d) for d in same):
        return None
    gap = beyond(long.narrow(axes[0], 0, kept), short, scale).movedim(axes[0], 1)
    return float(gap[inside.to(gap.device)].max())


def _first(sandbox: Sandbox, long: Any, short: Any, inside: Tensor, steps: int) -> tuple[str, Place | None]:
    """The first call whose result changes where there is no padding."""
    kept: list[tuple[str, Tensor]] = []
    room = KEPT_BYTES
    found: tuple[str, Place | None] = ("", None)
    number = 0

    def results(call: Call) -> list[Tensor]:
        values = [call.result] if isinstance(call.result, Tensor) else []
        if isinstance(call.result, tuple):  # a recurrent layer's last state includes the padding, but may not be used
            values = [v for v in call.result[: 1 if call.name in RECURRENT else None] if isinstance(v, Tensor)]
        return [v for v in values if v.is_floating_point()]

    def keep(call: Call) -> None:
        nonlocal room
        for tensor in results(call):
            room -= tensor.numel() * tensor.element_size()
            if room > 0:
                kept.append((call.name, tensor.detach().clone()))

    def compare(call: Call) -> None:
        nonlocal found, number
        for tensor in results(call):
            if found[0] or number >= len(kept):
                return
            name, before = kept[number]
            number += 1
            if name != call.name:
                number = len(kept)
                return
            change = _change(before, tensor.detach(), inside, steps)
            if change is not None and change > 1e-5:
                built_in = call.module is not None and type(call.module).__module__.startswith("torch.nn")
                own = layer_place(sandbox.model, call.layer) if built_in and call.layer else call.place()
                found = (call.name, located(own, sandbox.setup.origins.get("model")))

    woken_passage(sandbox, long, calls=(keep,))
    woken_passage(sandbox, short, calls=(compare,))
    return found
