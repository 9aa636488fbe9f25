"""Where a value comes from when it was only moved about: views, copies, slices and changes of type undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from nncheck.observe.watch import Call

Node = Any
"""A node of the autograd graph."""

# Nodes that move or copy values and compute nothing.
_MOVES = (
    "View", "UnsafeView", "ReshapeAlias", "Reshape", "Unsqueeze", "Squeeze", "Permute", "Transpose", "TBackward", "Clone", "ToCopy",
    "Alias", "Slice", "Select", "Narrow", "AsStrided", "Contiguous", "Flatten", "Index", "MaskedSelect", "Movedim", "Swapaxes",
)  # fmt: skip


def node_name(node: Node) -> str:
    """The name torch gives the node, e.g. `SoftmaxBackward0`."""
    name: str = node.name()
    return name


def sources(node: Node) -> list[Node]:
    """The nodes whose results a node computes with."""
    return [source for source, _ in node.next_functions if source is not None]


def back_through_moves(node: Node | None, also: tuple[str, ...] = ()) -> Iterator[Node]:
    """The node itself and those before it, as long as values are only moved (or changed by the nodes named in `also`)."""
    while node is not None:
        yield node
        if not node_name(node).startswith((*_MOVES, *also)):
            return
        before = sources(node)
        node = before[0] if len(before) == 1 else None


# What is done to scores after they were computed: scaled, masked, put side by side. (Addmm is a layer.)
_SHAPING = (
    *_MOVES, "Mul", "Div", "Neg", "MaskedFill", "Cat", "Stack", "AddBackward", "Sub", "Where", "Expand", "Pow",
    "LogSoftmax",
)  # fmt: skip
# What a forward pass works with; a weight that is only normalised, moved or scaled has none of these behind it.
_LAYERS = (
    "Addmm",
    "Mm",
    "Bmm",
    "Baddbmm",
    "Convolution",
    "Embedding",
    "NativeLayerNorm",
    "NativeBatchNorm",
    "MkldnnRnn",
)
_PRODUCTS = ("Mm", "Bmm", "Cdist", "EuclideanDist")
# Nodes looked at: a handful lie between a score and its product, a few dozen behind a normalised weight.
_FEW = 64


def compares_activations(node: Node | None) -> bool:
    """Whether scores are products of, or distances between, two results of layers: samples compared with samples, as in
    contrastive and prototypical losses, not with the weights of an output layer."""
    found = [] if node is None else [node]
    seen: set[Node] = set()
    while found and len(seen) < _FEW:
        node = found.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node_name(node)
        if name.startswith(_PRODUCTS):
            if _two_activations(node):
                return True
        elif name.startswith("Sum"):
            inner = list(back_through_moves(next(iter(sources(node)), None), ("Pow", "Neg")))
            if inner and node_name(inner[-1]).startswith(("Mul", "Sub")) and _two_activations(inner[-1]):
                return True
        elif name.startswith(_SHAPING):
            found.extend(sources(node))
    return False


def added_leaves(node: Node | None) -> list[Tensor]:
    """The tensors without history that are added to a result as they are: `score + mean` has `mean`."""
    found = [] if node is None else [node]
    leaves: list[Tensor] = []
    for _ in range(_FEW):
        if not found:
            break
        node = found.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        elif node_name(node).startswith("AddBackward"):
            found.extend(sources(node) if getattr(node, "_saved_alpha", 1) == 1 else sources(node)[:1])
        elif node_name(node).startswith((*_MOVES, "Expand")):
            found.extend(sources(node)[:1])
    return leaves


def _two_activations(node: Node) -> bool:
    operands = sources(node)
    return len(operands) == 2 and all(_has_layers(operand) for operand in operands)


def _has_layers(node: Node) -> bool:
    """Whether a layer was at work on the way to a result."""
    found: list[Node] = [node]
    seen: set[Node] = set()
    while found and len(seen) < _FEW:
        node = found.pop()
        if node in seen:
            continue
        seen.add(node)
        if node_name(node).startswith(_LAYERS):
            return True
        found.extend(sources(node))
    return False


class Derived:
    """Tensors that hold the given tensors' values, moved about or changed by a function of nothing else, kept by their storage.

    Give `see` to a watch. The seen tensors are kept alive until this object is dropped, so that no storage is used twice.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        self._known: dict[int, Tensor] = {}
        for tensor in tensors:
            self._add(tensor)

    def __contains__(self, tensor: object) -> bool:
        return isinstance(tensor, Tensor) and tensor.numel() > 0 and _storage(tensor) in self._known

    def see(self, call: Call) -> None:
        """Follow one call: a result of as many values, made from one known tensor and single numbers, is known too."""
        result = call.result
        if not isinstance(result, Tensor) or result.requires_grad or result in self:
            return
        tensors = [value for value in (*call.args, *call.kwargs.values()) if isinstance(value, Tensor)]
        large = [tensor for tensor in tensors if tensor.numel() > 1]
        one = len(large) == 1 and large[0].numel() == result.numel()
        if one and large[0] in self and not call.name.endswith("_like"):
            self._add(result)

    def _add(self, tensor: Tensor) -> None:
        if tensor.numel():
            self._known[_storage(tensor)] = tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
