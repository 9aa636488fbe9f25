"""Which prediction meets which target inside the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.call import CLASSIFICATION, LossCall, classes, place_of, soft_targets
from nncheck.observe.lineage import Derived, Node, back_through_moves
from nncheck.observe.source import layer_place, located
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# What a hand-written loss joins predictions and targets with.
_JOINS = {"sub": "-", "subtract": "-", "rsub": "-", "__rsub__": "-", "mul": "*", "multiply": "*", "__rmul__": "*"}
# Positions of the logits are numbered in float32, which counts exactly this far.
_COUNTABLE = 1 << 24
# Rows of logits whose origin is looked up; a wrong layout shows in the first few.
_ROWS = 512
_FEATURES = {nn.Linear: -1, nn.Conv1d: 1, nn.Conv2d: 1, nn.Conv3d: 1, nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 1}


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Predictions and targets that meet by broadcasting to more pairs than there are of either.

    how: the loss or operator. output, target, result: shapes. targets_vary: whether the targets differ at all.
    changed: the relative change of the loss when the targets are permuted, None where it could not be asked again.
    """

    how: str
    place: Place
    output: tuple[int, ...]
    target: tuple[int, ...]
    result: tuple[int, ...]
    targets_vary: bool
    changed: float | None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the class dimension of a classification loss lies in the layer that made the logits.

    layer, layer_shape, feature_dim: that layer, its output and the dimension in which its classes lie. logits: the shape the
    loss was given. rows: predictions looked at. mixed: those whose scores come from several positions of the layer's output;
    swapped: those of them that run along another dimension of it instead of the classes, with one and the same class.
    touched: the positions of the layer's output that one target reaches, at most.
    """

    kind: str
    place: Place
    layer: Place
    layer_shape: tuple[int, ...]
    feature_dim: int
    logits: tuple[int, ...]
    rows: int
    mixed: int
    swapped: int
    touched: int


@dataclass(frozen=True, kw_only=True)
class TargetPairing:
    """One forward pass on the first batch in train mode. `compared` says, for people, what met what, and `expanded` whether the
    last of these makes more pairs than there are of either."""

    compared: tuple[str, ...]
    pairings: tuple[Pairing, ...]
    layouts: tuple[Layout, ...]
    expanded: bool = False


@probe
def target_pairing(sandbox: Sandbox) -> TargetPairing:
    """One forward pass; then only the loss is asked again, on detached outputs."""
    batch = sandbox.feed.first
    target = batches.split(batch)[1]
    derived = Derived([t for _, t in batches.named_tensors(target)])
    # A training step takes its targets from wherever they lie: what it does not feed to the model may be one.
    own = target is None and sandbox.objective.form != "loss_fn"
    others = {name: Derived([t]) for name, t in batches.named_tensors(batch)} if own else {}
    fed: set[str] = set()
    joins: list[tuple[str, Place, Tensor, Tensor]] = []
    strewn: list[tuple[str, Place, Tensor, Tensor]] = []
    guessed: list[tuple[str, str, Place, Tensor, Tensor]] = []
    met: list[tuple[str, bool]] = []
    heads: dict[Node, tuple[str, Tensor, int]] = {}

    def see_call(call: Call) -> None:
        derived.see(call)
        for each in others.values():
            each.see(call)
        operator = _JOINS.get(call.name)
        if operator is None or len(call.args) < 2:
            return
        left, right = call.args[0], call.args[1]
        for output, other in ((left, right), (right, left)):
            if not (isinstance(output, Tensor) and output.requires_grad and isinstance(other, Tensor)):
                continue
            name = next((name for name, each in others.items() if other in each), None)
            if name is not None and _outer(output, other):
                guessed.append((name, operator, call.place(), output.detach(), other))
            if other not in derived:
                continue
            met.append((f"{tuple(output.shape)} {operator} {tuple(other.shape)}", _grows(output, other)))
            if _outer(output, other):
                joins.append((operator, call.place(), output.detach(), other))
            elif _strewn(output, other):
                strewn.append((operator, call.place(), output.detach(), other))
            return

    def see_module(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for _, given in batches.named_tensors(inputs) if others else ():
            fed.update(key for key, each in others.items() if given in each)
        dimension = _FEATURES.get(type(module))
        if dimension is not None and isinstance(output, Tensor) and output.grad_fn is not None:
            heads[output.grad_fn] = (name, output, dimension % output.ndim)

    named: list[tuple[str, bool]] = []
    with sandbox.trial():
        outcome = sandbox.forward(batch, calls=(see_call,), modules=(see_module,))
        origins = sandbox.setup.origins
        pairings = [p for call in outcome.calls if (p := _broadcast(call, place_of(call, origins))) is not None]
        for operator, place, output, other in joins:
            pairings.append(_joined(operator, place, output, other, _permuted_change(sandbox, batch, outcome.output)))
        for operator, place, output, other in strewn[:1]:
            pairing = _joined(operator, place, output, other, _permuted_change(sandbox, batch, outcome.output))
            if pairing.changed is not None:  # the shapes by themselves may be meant
                pairings.append(pairing)
        value = float(outcome.loss.detach())
        layouts = [
            found
            for call in outcome.calls
            if (found := _layout(sandbox, call, place_of(call, origins), heads)) is not None
        ]
        for c in outcome.calls:
            grows = c.kind not in CLASSIFICATION and _grows(c.input, c.target)
            named.append((f"{c.kind} of {tuple(c.input.shape)} and {tuple(c.target.shape)}", grows))
    del outcome
    heads.clear()
    for name, operator, place, output, other in guessed[:1]:
        # Only what the loss does not tell apart was certainly not meant.
        if name not in fed:
            pairings.append(_joined(operator, place, output, other, _reordered_change(sandbox, batch, name, value)))
    said = named or met
    return TargetPairing(
        compared=tuple(text for text, _ in said),
        pairings=tuple(pairings),
        layouts=tuple(layouts),
        expanded=bool(said) and said[-1][1],
    )


def _outer(output: Tensor, target: Tensor) -> bool:
    """Whether two tensors of the same values' shape, but for dimensions of length one, broadcast to more than either.

    (N, 1) and (N,), or (N, 1, H, W) and (N, H, W): never meant. Tensors that both have the same number of dimensions were
    put so on purpose (`x[:, None] - y[None]`).
    """
    if output.ndim == target.ndim or [d for d in output.shape if d != 1] != [d for d in target.shape if d != 1]:
        return False
    return _grows(output, target)


def _strewn(output: Tensor, target: Tensor) -> bool:
    """Whether one target for each of several-valued predictions has its samples laid along another dimension than theirs:
    (N, K) against (N, 1, 1), which makes N x N x K. The same expansion is meant where sets are compared as wholes."""
    return (
        output.ndim != target.ndim
        and output.ndim > 1
        and target.numel() == output.size(0) == max(target.shape, default=0)
        and _grows(output, target)
    )


def _grows(output: Tensor, target: Tensor) -> bool:
    try:
        result = _result(output, target)
    except RuntimeError:
        return False
    return math.prod(result) > max(output.numel(), target.numel())


def _result(output: Tensor, target: Tensor) -> tuple[int, ...]:
    return tuple(torch.broadcast_shapes(output.shape, target.shape))


def _vary(target: Tensor) -> bool:
    return bool((target != target.flatten()[0]).any())


def _joined(operator: str, place: Place, output: Tensor, target: Tensor, changed: float | None) -> Pairing:
    return Pairing(
        how=operator,
        place=place,
        output=tuple(output.shape),
        target=tuple(target.shape),
        result=_result(output, target),
        targets_vary=_vary(target),
        changed=changed,
    )


def _broadcast(call: LossCall, place: Place) -> Pairing | None:
    """A loss of torch's whose input and target broadcast to all pairs."""
    input, target = call.input.detach(), call.target.detach()
    if call.kind in CLASSIFICATION or not target.numel() or not _grows(input, target):
        return None
    if [d for d in input.shape if d != 1] != [d for d in target.shape if d != 1]:
        return None
    with torch.no_grad():
        changed = _least_change(lambda permuted: call.again(input, permuted).mean(), target)
    return Pairing(
        how=call.kind,
        place=place,
        output=tuple(input.shape),
        target=tuple(target.shape),
        result=_result(input, target),
        targets_vary=_vary(target),
        changed=changed,
    )


def _least_change(loss: Callable[[Tensor], Tensor], target: Tensor) -> float:
    """The relative change of the loss when targets are reversed along the dimension in which it matters least."""
    before = loss(target).double()
    changes = [
        (loss(target.flip(d).contiguous()).double() - before).abs() / before.abs().clamp_min(1e-12)
        for d in range(target.ndim)
        if target.size(d) > 1
    ]
    return float(torch.stack(changes).min()) if changes else 0.0


def _permuted_change(sandbox: Sandbox, batch: Any, output: Any) -> float | None:
    """The same for the set-up's own loss; None where it cannot be asked on its own."""
    loss_fn, target = sandbox.setup.loss_fn, batches.split(batch)[1]
    if sandbox.objective.form != "loss_fn" or loss_fn is None or output is None or not isinstance(target, Tensor):
        return None
    fixed = batches.map_tensors(Tensor.detach, output)
    with torch.no_grad():
        return _least_change(lambda permuted: loss_fn(fixed, permuted), target)


def _reordered_change(sandbox: Sandbox, batch: Any, name: str, before: float) -> float:
    """The relative change of the loss when one tensor of the batch is given to the samples in reverse order."""
    names = iter([n for n, _ in batches.named_tensors(batch)])
    other = batches.map_tensors(lambda t: t.flip(0) if next(names) == name and t.ndim else t, batch)
    with sandbox.trial():
        after = float(sandbox.forward(other).loss.detach())
    return abs(after - before) / max(abs(before), 1e-12)


def _layout(
    sandbox: Sandbox, call: LossCall, place: Place, heads: dict[Node, tuple[str, Tensor, int]]
) -> Layout | None:
    """Follow the logits back to the layer that made them, if they were only moved about since."""
    if call.kind not in CLASSIFICATION or call.input.ndim < 2 or soft_targets(call):
        return None
    head = next((heads[node] for node in back_through_moves(call.input.grad_fn) if node in heads), None)
    if head is None or head[1].ndim < 3:  # in (N, C) there is nothing to swap
        return None
    name, made, feature_dim = head
    rows = min(_ROWS, call.input.numel() // classes(call), (_COUNTABLE - 1) // classes(call))
    if rows < 2:
        return None
    if call.input.dtype not in (torch.float32, torch.float64):
        return None
    # Each score gets a number; the gradient carries it back to where the score was made.
    numbered = torch.zeros(
        call.input.numel() // classes(call), classes(call), dtype=call.input.dtype, device=call.input.device
    )
    numbered[:rows] = torch.arange(1, rows * classes(call) + 1, dtype=call.input.dtype, device=numbered.device).view(
        rows, -1
    )
    others = [length for d, length in enumerate(call.input.shape) if d != 1]
    ids = numbered.view(*others, classes(call)).movedim(-1, 1)
    (back,) = torch.autograd.grad(call.input, made, ids, retain_graph=True, allow_unused=True)
    if back is None:
        return None
    where = back.nonzero()
    values = back[tuple(where.T)].long() - 1
    if len(values) != rows * classes(call) or int(values.max()) >= rows * classes(call):
        return None  # used twice, or not all from here
    found = torch.empty(rows * classes(call), made.ndim, dtype=torch.long, device=where.device)
    found[values] = where
    found = found.view(rows, classes(call), made.ndim)
    positions = [d for d in range(made.ndim) if d != feature_dim]
    varies = (found != found[:, :1]).any(1)  # (rows, dimensions of the layer's output)
    mixed = varies[:, positions].any(1)
    swapped = (varies[:, positions].sum(1) == 1) & ~varies[:, feature_dim]
    touched = max(len(torch.unique(row, dim=0)) for row in found[:8, :, positions])
    return Layout(
        kind=call.kind,
        place=place,
        layer=located(layer_place(sandbox.model, name), sandbox.setup.origins.get("model")),
        layer_shape=tuple(made.shape),
        feature_dim=feature_dim,
        logits=tuple(call.input.shape),
        rows=rows,
        mixed=int(mixed.sum()),
        swapped=int(swapped.sum()),
        touched=touched,
    )
