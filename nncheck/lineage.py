"""Where a value comes from when it was only moved about: views, copies, slices and changes of type undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from nncheck.watch import Call

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
