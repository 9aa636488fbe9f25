"""Where NaN and Inf come from: which batch and sample, which layer, which operation on the way forward or back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.graph import nodes
from nncheck.observe.watch import Call
from nncheck.probes.first_step import FirstStep
from nncheck.probes.gradients import Gradients
from nncheck.registry import probe
from nncheck.verdict import Place

# Batches whose values are looked at; only those that stand out are run.
SCANNED = 16
RUNS = 3
# Operations that write Inf on purpose: attention masks.
_MASKS = frozenset(
    {"masked_fill", "masked_fill_", "full", "full_like", "fill_", "where", "triu", "tril", "tensor", "new_full", "__setitem__",
     "zeros_like", "add", "__add__", "expand", "view", "unsqueeze", "to", "repeat", "__getitem__", "copy_"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BadData:
    """One tensor of one batch that holds NaN or Inf. samples: the first few, `count` in all, `share` of its values."""

    batch: int
    tensor: str
    what: str
    samples: tuple[int, ...]
    count: int
    share: float
    target: bool


@dataclass(frozen=True, kw_only=True)
class BadRun:
    """A batch other than the first that was run because `reason`. bad_gradients: only looked at if the loss is finite."""

    batch: int
    reason: str
    loss: float
    bad_gradients: tuple[str, ...]
    origin: Place | None

    @property
    def bad(self) -> bool:
        return not math.isfinite(self.loss) or bool(self.bad_gradients)


@dataclass(frozen=True, kw_only=True)
class NonFinite:
    """scanned: batches looked at. data: what they hold. runs: batches that stood out, and how the training took them.
    origin: the operation that makes the first batch's loss (or, if that is finite, a gradient) not finite, by name in
    `detail` and with the user's line. backward: whether it did so on the way back.
    """

    scanned: int
    data: tuple[BadData, ...]
    runs: tuple[BadRun, ...]
    origin: Place | None
    backward: bool


@probe
def non_finite(sandbox: Sandbox, first: FirstStep, steps: Gradients) -> NonFinite:
    """Looks at the values of the first batches; runs the first one again only if something was wrong with it."""
    taken = sandbox.feed.take(SCANNED)
    data = tuple(found for index, batch in enumerate(taken) for found in _scan(index, batch))
    origin, backward = None, False
    if not math.isfinite(first.loss) or first.bad_gradients:
        backward = math.isfinite(first.loss)
        with sandbox.trial():
            origin = _origin(sandbox, taken[0], 0)
    runs: list[BadRun] = []
    later = next((i for i, loss in enumerate(steps.losses) if i and not math.isfinite(loss)), None)
    if later is not None and later < len(taken):
        # Is it the batch, or the steps before it? Asked of the untouched weights.
        odd = sorted(_odd(taken[later], first.ignore_index))
        runs.append(_run(sandbox, taken[later], later, odd[0] if odd else "nothing stands out in the data"))
    if math.isfinite(first.loss) and not first.bad_gradients and first.connected:
        usual = _odd(taken[0], first.ignore_index)
        for index, batch in enumerate(taken[1:], 1):
            reason = next((f"holds {d.what} in {d.tensor}" for d in data if d.batch == index), "")
            reason = reason or next((r for r in _odd(batch, first.ignore_index) if r not in usual), "")
            if reason and len(runs) < RUNS and index != later:
                runs.append(_run(sandbox, batch, index, reason))
    return NonFinite(scanned=len(taken), data=data, runs=tuple(runs), origin=origin, backward=backward)


def _scan(index: int, batch: Any) -> list[BadData]:
    target_ids = {id(t) for _, t in batches.named_tensors(batches.split(batch)[1])}
    found = []
    for name, tensor in batches.named_tensors(batch):
        if not tensor.is_floating_point() or tensor.layout is not torch.strided or not tensor.numel():
            continue
        wrong = ~torch.isfinite(tensor)
        if not bool(wrong.any()):
            continue
        rows = wrong.reshape(tensor.size(0), -1).any(1).nonzero().flatten().tolist() if tensor.ndim else [0]
        found.append(
            BadData(
                batch=index,
                tensor=name or "the input",
                what="NaN" if bool(torch.isnan(tensor).any()) else "Inf",
                samples=tuple(rows[:5]),
                count=len(rows),
                share=float(wrong.float().mean()),
                target=id(tensor) in target_ids,
            )
        )
    return found


def _odd(batch: Any, ignore_index: int | None) -> set[str]:
    """What makes a batch unusual: all its targets ignored, an empty mask, a constant sample."""
    inputs, target = batches.split(batch)
    odd = set()
    for _, tensor in batches.named_tensors(target):
        if ignore_index is not None and not tensor.is_floating_point() and bool((tensor == ignore_index).all()):
            odd.add(f"every target is {ignore_index}, which the loss ignores")
    for name, tensor in batches.named_tensors(inputs):
        if tensor.ndim < 2 or not tensor.numel() or tensor.layout is not torch.strided or tensor.is_complex():
            continue
        rows = tensor.reshape(tensor.size(0), -1)
        if rows.size(1) < 2:
            continue
        same = (rows == rows[:, :1]).all(1)
        if bool((same & (rows[:, 0] == 0)).any()):
            odd.add(f"a sample of {name or 'the input'} is zero everywhere")
        elif bool(same.any()):
            odd.add(f"a sample of {name or 'the input'} is constant")
    return odd


def _run(sandbox: Sandbox, batch: Any, index: int, reason: str) -> BadRun:
    with sandbox.trial() as model:
        loss = sandbox.forward(batch, index=index).loss
        value = float(loss.detach())
        bad: tuple[str, ...] = ()
        if math.isfinite(value) and loss.requires_grad:
            sandbox.backward(loss, batch)
            bad = tuple(
                n for n, p in model.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())
            )
        origin = None
        if bad or not math.isfinite(value):
            for parameter in model.parameters():
                parameter.grad = None
            origin = _origin(sandbox, batch, index)
    return BadRun(batch=index, reason=reason, loss=value, bad_gradients=bad, origin=origin)


def _origin(sandbox: Sandbox, batch: Any, index: int) -> Place | None:
    """The operation that first makes NaN or Inf of finite values, forward or, if the loss is finite, backward."""
    first: dict[str, Place] = {}
    made: dict[Any, Place] = {}

    def see(call: Call) -> None:
        result = call.result
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return
        if result.grad_fn is not None and result.grad_fn not in made:
            made[result.grad_fn] = call.place(detail=f"{call.name}()")
        for word, test in (("NaN", torch.isnan), ("Inf", torch.isinf)):
            if word in first or (word == "Inf" and call.name in _MASKS):
                continue
            if bool(test(result.detach()).any()) and not any(
                bool(test(t.detach()).any()) for t in _floats((*call.args, *call.kwargs.values()))
            ):
                first[word] = call.place(detail=f"{call.name}() makes {word}")

    loss = sandbox.forward(batch, index=index, calls=(see,)).loss
    if not torch.isfinite(loss.detach()):
        # NaN often comes of an Inf before it; where only Inf is seen, it is the one.
        return first.get("NaN") if torch.isnan(loss.detach()) else first.get("Inf")
    return _backward_origin(sandbox, loss, batch, made)


def _backward_origin(sandbox: Sandbox, loss: Tensor, batch: Any, made: dict[Any, Place]) -> Place | None:
    culprit: list[Any] = []
    hooks = []

    def hook_for(node: Any) -> Any:
        def hook(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> None:
            if culprit or all(_finite(g) for g in grad_inputs):
                return
            if all(_finite(g) for g in grad_outputs):
                culprit.append(node)

        return hook

    order = list(nodes(loss))
    for node in order:
        if not hasattr(node, "variable"):
            hooks.append(node.register_hook(hook_for(node)))
    sandbox.backward(loss, batch)
    for handle in hooks:
        handle.remove()
    if not culprit:
        return None
    name = culprit[0].name() if callable(getattr(culprit[0], "name", None)) else type(culprit[0]).__name__
    place = made.get(culprit[0]) or _above(culprit[0], order, made)
    if place is None:
        return Place(name=name, detail=f"the derivative of {name} is not finite")
    return dataclasses.replace(place, detail=f"the derivative of {place.detail} is not finite")


def _above(node: Any, order: list[Any], made: dict[Any, Place]) -> Place | None:
    """The place of the nearest known operation that uses what `node` made: part of a function seen only as a whole."""
    users: dict[Any, list[Any]] = {}
    for other in order:
        for below, _ in other.next_functions:
            users.setdefault(below, []).append(other)
    waiting, seen = [node], {node}
    while waiting:
        current = waiting.pop(0)
        if current in made:
            return made[current]
        for other in users.get(current, ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return None


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _floats(values: tuple[Any, ...]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(_floats(tuple(value)))
    return found
