"""Which inputs the outputs depend on at all: every argument of the model, and every feature, channel and position in it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab import batch as batches
from nncheck.lab.doors import Argument, Change, Passage, wake, woken_passage
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.swapping import CHOICES
from nncheck.observe.tracks import follow, freeze
from nncheck.registry import probe

# More arguments than this are not asked one by one: a pass each.
ARGUMENTS = 6
# Where a changed group of entries moves the outputs although none has a gradient, so many are asked one by one.
ONE_BY_ONE = 6
SEQUENTIAL = (
    "conv",
    "lstm",
    "gru",
    "rnn_",
    "scaled_dot_product_attention",
    "multi_head_attention",
    "softmax",
    "unfold",
)


@dataclass(frozen=True, kw_only=True)
class AxisUse:
    """The entries along one axis of an argument. unused: those that vary over the samples and never move an output.

    kind: "features" of a table or of a step, "channels" of an image, "positions" of a sequence, "pixels".
    """

    kind: Literal["features", "channels", "positions", "pixels"]
    axis: int
    length: int
    varying: int
    unused: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ArgumentUse:
    """One argument that differs from sample to sample. used: exchanging it between samples moves an output."""

    name: str
    shape: str
    used: bool
    axes: tuple[AxisUse, ...]


@dataclass(frozen=True, kw_only=True)
class InputReach:
    """What of the first batch's inputs reaches the outputs, in eval and in train mode, with no parameter at zero.

    constant: arguments that are the same for every sample, which tell nothing.
    chosen: functions that choose by the data were called, so that what no sample used another might.
    """

    samples: int
    arguments: tuple[ArgumentUse, ...]
    constant: tuple[str, ...]
    chosen: bool


@probe
def input_reach(sandbox: Sandbox) -> InputReach:
    """A pass for each argument with its samples exchanged, and a backward pass for what is inside of it."""
    batch = sandbox.feed.first
    size = batches.size(batch)
    if size < 2:
        raise CannotMeasure("needs a batch of at least two samples")
    functions: set[str] = set()
    base = woken_passage(sandbox, batch, calls=(lambda call: functions.add(call.name),))
    groups = _groups(base, batch, size)
    varying = {
        name: members for name, members in groups.items() if any(bool(_differs(a.tensor).any()) for a in members)
    }
    constant = tuple(name or "the input" for name in groups if name not in varying)
    if not varying:
        raise CannotMeasure("no input differs between the samples of the batch")
    if len(varying) > ARGUMENTS:
        raise CannotMeasure(f"the model takes {len(varying)} arguments that vary, too many to ask one by one")
    used = {name: not _same(sandbox, batch, base, _exchanged(members)) for name, members in varying.items()}
    gradients = _gradients(sandbox, batch)
    reached = any(bool((g != 0).any()) for g in gradients.values())
    if not any(used.values()) and reached:
        # Gradients get through where differences drown in rounding: a deep network at its start.
        used = dict.fromkeys(used, True)
    chosen = bool(functions & CHOICES)
    uses = []
    for name, members in varying.items():
        axes: tuple[AxisUse, ...] = ()
        if used[name] and len(members) == 1 and not chosen:
            axes = _axes(sandbox, batch, base, members[0], gradients, functions)
        uses.append(
            ArgumentUse(
                name=name or "the input",
                shape=batches.describe_tensor(members[0].tensor),
                used=used[name],
                axes=axes,
            )
        )
    return InputReach(samples=size, arguments=tuple(uses), constant=constant, chosen=chosen)


def _looked_at(seen: Passage) -> list[Tensor]:
    """What came out: outputs, what the losses were given, and the loss itself, for which an argument may be meant."""
    found = [t for _, t in seen.outputs]
    if seen.outcome is not None:
        found.extend([*(call.input.detach() for call in seen.outcome.calls), seen.outcome.loss.detach()])
    return found


def _groups(base: Passage, batch: Any, size: int) -> dict[str, list[Argument]]:
    """Arguments with a row for each sample, by name; targets that are handed to the model are none."""
    _, target = batches.split(batch)
    targets = [t for _, t in batches.named_tensors(target)]
    found: dict[str, list[Argument]] = {}
    for argument in base.arguments:
        tensor = argument.tensor
        if not tensor.ndim or tensor.size(0) != size or tensor.layout is not torch.strided:
            continue
        name = argument.name.partition(".")[0]
        if name in batches.TARGET_KEYS or name.startswith("_") or any(_equal(tensor, t) for t in targets):
            continue
        found.setdefault(argument.name, []).append(argument)
    return found


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _differs(tensor: Tensor) -> Tensor:
    """Where a sample's value is not the next one's; a missing value is the same as another."""
    other = tensor.roll(1, 0)
    return (tensor != other) & ~(tensor.isnan() & other.isnan())


def _exchanged(members: Iterable[Argument]) -> Change:
    """Each sample is given the next one's values."""
    wanted = {a.index for a in members}
    return lambda index, tensor: tensor.roll(1, 0) if index in wanted else tensor


def _entries(argument: Argument, axis: int, entries: list[int]) -> Change:
    """The same for some entries along an axis only."""

    def change(index: int, tensor: Tensor) -> Tensor:
        if index != argument.index:
            return tensor
        changed = tensor.clone()
        where = torch.tensor(entries, device=tensor.device)
        return changed.index_copy(axis, where, tensor.roll(1, 0).index_select(axis, where))

    return change


def _same(sandbox: Sandbox, batch: Any, base: Passage, change: Change) -> bool:
    """Whether outputs are the same to the bit when inputs change, in eval mode and then in train mode too."""
    try:
        after = woken_passage(sandbox, batch, change=change)
        if not _identical(base, after):
            return False
        before = woken_passage(sandbox, batch, mode="train")
        after = woken_passage(sandbox, batch, change=change, mode="train")
    except TargetError:
        return False  # lengths or offsets that do not fit any more: they are read
    return _identical(before, after)


def _identical(before: Passage, after: Passage) -> bool:
    a, b = _looked_at(before), _looked_at(after)
    if len(a) != len(b):
        return False
    return all(
        x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all()) for x, y in zip(a, b, strict=True)
    )


def _gradients(sandbox: Sandbox, batch: Any) -> dict[tuple[int, ...], Tensor]:
    """Where the outputs have a gradient: by the shape of the tensor at the door, or of what is first made from integers."""
    found: dict[tuple[int, ...], Tensor] = {}
    with suppress(CannotMeasure, TargetError), sandbox.trial(mode="eval") as model:
        wake(model)
        freeze(model)
        track = follow(sandbox, batch)
        generator = torch.Generator().manual_seed(1)
        outputs = [t for _, t in track.outputs if t.requires_grad]
        if not outputs or not track.sources:
            return {}
        total = torch.zeros((), dtype=torch.double, device=outputs[0].device)
        for tensor in outputs:
            weights = torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
            total = total + (tensor * weights).sum().double()
        # A backward of the user's, or checkpoints of the old kind, may not stand it: nothing is said of single entries then.
        with suppress(RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            gradients = sandbox.grad(total, [leaf for _, leaf in track.sources], batch)
            for (_, leaf), gradient in zip(track.sources, gradients, strict=True):
                if gradient is not None:
                    key = tuple(leaf.shape)
                    seen = gradient.detach().abs().nan_to_num(nan=1.0)
                    found[key] = found[key] + seen if key in found else seen
    return found


def _axes(
    sandbox: Sandbox, batch: Any, base: Passage, argument: Argument, gradients: dict[tuple[int, ...], Tensor],
    functions: set[str],
) -> tuple[AxisUse, ...]:  # fmt: skip
    tensor = argument.tensor
    if tensor.ndim < 2 or tensor.dtype is torch.bool:
        return ()
    gradient = gradients.get(tuple(tensor.shape))
    if not tensor.is_floating_point():
        if tensor.ndim != 2:
            return ()
        embedded = [g for shape, g in gradients.items() if len(shape) == 3 and shape[:2] == tuple(tensor.shape)]
        gradient = embedded[0].amax(2) if len(embedded) == 1 else None
    if gradient is None:
        return ()
    found = []
    for axis in range(1, tensor.ndim):
        others = [d for d in range(tensor.ndim) if d != axis]
        varies = _differs(tensor).sum(others) > 0
        idle = (gradient == 0).all(dim=0, keepdim=True).movedim(axis, 0).flatten(1).all(1)
        unused = (varies & idle.to(varies.device)).nonzero().flatten().tolist()
        kind = _kind(tensor, axis, functions)
        if unused and kind == "channels":
            unused = [c for c in unused if not _copied(tensor, axis, c, set(unused))]
        if unused and kind != "pixels":
            unused = _confirmed(sandbox, batch, base, argument, axis, unused)
        found.append(
            AxisUse(kind=kind, axis=axis, length=tensor.size(axis), varying=int(varies.sum()), unused=tuple(unused))
        )
    return tuple(found)


def _kind(tensor: Tensor, axis: int, functions: set[str]) -> Literal["features", "channels", "positions", "pixels"]:
    sequential = any(name.startswith(SEQUENTIAL) for name in functions)
    if tensor.ndim == 2:
        return "features" if tensor.is_floating_point() and not sequential else "positions"
    if tensor.ndim == 3:
        # Steps outnumber what is measured at each of them.
        return "features" if 2 * tensor.size(axis) <= tensor.size(3 - axis) else "positions"
    return "channels" if axis == 1 and tensor.size(1) <= 64 else "pixels"


def _copied(tensor: Tensor, axis: int, entry: int, unused: set[int]) -> bool:
    """Whether an unused channel repeats a used one, as a grey image in three channels does."""
    own = tensor.select(axis, entry)
    return any(torch.equal(own, tensor.select(axis, k)) for k in range(tensor.size(axis)) if k not in unused)


def _confirmed(
    sandbox: Sandbox, batch: Any, base: Passage, argument: Argument, axis: int, unused: list[int]
) -> list[int]:
    """Those that move nothing when their values are exchanged; a gradient may be missing for another reason."""
    if _same(sandbox, batch, base, _entries(argument, axis, unused)):
        return unused
    if len(unused) > ONE_BY_ONE:
        return []
    return [entry for entry in unused if _same(sandbox, batch, base, _entries(argument, axis, [entry]))]
