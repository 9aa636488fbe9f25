"""How large values are on their way through the layers, and which unreduced losses a mask is multiplied with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.losses.call import KINDS, LossCall
from nncheck.observe.lineage import Node
from nncheck.observe.watch import Call


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer in forward order: the root mean square of what goes in and comes out, and of its weight times sqrt(fan-in)."""

    name: str
    type: str
    came_in: float
    came_out: float
    gain: float | None
    fan_in: int | None
    tied: bool


class LayerWatch:
    """What is kept of the layers and masks of a pass."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, nn.Module, Tensor, Tensor]] = []
        self._losses: dict[Node, int] = {}
        self._masks: dict[Node, Tensor] = {}
        self.normalised = False

    def clear(self) -> None:
        self._losses.clear()
        self._masks.clear()

    def see_call(self, call: Call) -> None:
        if call.name in ("normalize", "cosine_similarity", "cdist"):
            self.normalised = True
        result = call.result
        if call.function in KINDS and isinstance(result, Tensor) and result.ndim and result.grad_fn is not None:
            self._losses[result.grad_fn] = result.numel()
        if call.name in ("mul", "multiply", "__rmul__") and self._losses and len(call.args) == 2:
            for loss, mask in (call.args, call.args[::-1]):
                if isinstance(loss, Tensor) and isinstance(mask, Tensor) and not mask.requires_grad:
                    node = _base(loss.grad_fn, self._losses)
                    if node is not None and mask.numel() == self._losses[node]:
                        self._masks[node] = mask.detach().flatten()

    def mask(self, call: LossCall) -> Tensor | None:
        """The zeros and ones the user multiplies the unreduced loss with."""
        mask = self._masks.get(call.value.grad_fn)
        if mask is None or not bool(((mask == 0) | (mask == 1)).all()) or not bool(mask.any()):
            return None
        return mask.bool()

    def see_module(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if (
            next(module.children(), None) is not None
            or not isinstance(output, Tensor)
            or not output.is_floating_point()
        ):
            return
        came_in = next((t for t in inputs if isinstance(t, Tensor) and t.is_floating_point()), None)
        size = rms(output)
        self._rows.append((name, module, size.new_tensor(math.nan) if came_in is None else rms(came_in), size))

    def layers(self, model: nn.Module) -> tuple[Layer, ...]:
        """The layers seen, each once, with their weights' gains."""
        if not self._rows:
            return ()
        users: dict[int, int] = {}
        for module in {id(m): m for _, m, _, _ in self._rows}.values():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor):
                users[id(weight)] = users.get(id(weight), 0) + 1
        gains = gains_of([m for _, m, _, _ in self._rows])
        sizes = torch.stack([torch.stack((a.float(), b.float())) for _, _, a, b in self._rows]).tolist()
        found: dict[str, Layer] = {}
        for (name, module, _, _), (came_in, came_out) in zip(self._rows, sizes, strict=True):
            tied = users.get(id(getattr(module, "weight", None)), 0) > 1
            found.setdefault(
                name,
                Layer(
                    name=name,
                    type=type(module).__name__,
                    came_in=came_in,
                    came_out=came_out,
                    gain=gains.get(id(module)),
                    fan_in=fan_in(module),
                    tied=tied,
                ),
            )
        self._rows = []
        return tuple(found.values())


def _base(node: Node | None, known: dict[Node, int]) -> Node | None:
    """The loss call behind a view of its result."""
    for _ in range(3):
        if node is None or node in known:
            return node
        before = [source for source, _ in node.next_functions if source is not None]
        node = before[0] if len(before) == 1 else None
    return None


def rms(tensor: Tensor) -> Tensor:
    """Root mean square, without a copy and outside the user's graph."""
    with torch.no_grad():
        size: Tensor = torch.linalg.vector_norm(tensor.detach()) / math.sqrt(max(1, tensor.numel()))
        return size


def fan_in(module: nn.Module) -> int | None:
    """Inputs of one unit, read from the weight's shape."""
    weight = getattr(module, "weight", None)
    return weight[0].numel() if isinstance(weight, Tensor) and weight.ndim > 1 and len(weight) else None


def gains_of(modules: list[nn.Module]) -> dict[int, float]:
    """What a layer multiplies independent inputs by: the root mean square of its weight times sqrt(fan-in)."""
    owners, weights = [], []
    for module in {id(m): m for m in modules}.values():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1 and weight.is_floating_point() and weight.numel():
            owners.append(id(module))
            weights.append(weight.detach())
    if not weights:
        return {}
    norms = torch.stack([n.float() for n in torch._foreach_norm(weights)]).tolist()
    return {
        owner: norm / math.sqrt(weight.numel()) * math.sqrt(weight[0].numel())
        for owner, norm, weight in zip(owners, norms, weights, strict=True)
    }


def widest(layers: tuple[Layer, ...]) -> list[Layer]:
    """The layers a message may name: those with large weights, and the last that has any."""
    weighted = [layer for layer in layers if layer.gain is not None]
    chosen = sorted(weighted, key=lambda layer: -(layer.gain or 0.0))[:5]
    return chosen + [layer for layer in weighted[-1:] if layer not in chosen]
