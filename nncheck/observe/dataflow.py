"""What becomes of an activation on its way to the loss, read from the autograd graph of one forward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Node = Any
"""A node of the autograd graph. torch keeps one Python object per node as long as somebody holds it; a `Flow` does."""

# Nodes that only move, copy or drop values: an activation seen through one of them is still that activation.
_SHAPE = (
    "View", "UnsafeView", "ReshapeAlias", "Reshape", "Expand", "Unsqueeze", "Squeeze", "Permute", "Transpose", "TBackward", "Clone",
    "ToCopy", "Alias", "Slice", "Select", "Split", "SplitWithSizes", "Chunk", "Unbind", "Contiguous", "Narrow", "NativeDropout",
    "AsStrided", "Repeat", "Flatten", "MaskedFill", "ConstantPadNd",
)  # fmt: skip

_WEIGHTS = (
    "Addmm", "Mm", "Bmm", "Baddbmm", "Addmv", "Mv", "Convolution", "Conv", "Linear", "Mkldnn", "Embedding", "CudnnRnn", "MkldnnRnn",
    "ScaledDot", "Lstm", "Gru", "Miopen", "Einsum",
)  # fmt: skip

_AFFINE = (
    "Add",
    "Sub",
    "Mean",
    "Sum",
    "AvgPool",
    "AdaptiveAvgPool",
    "MkldnnAdaptiveAvgPool",
    "NativeBatchNorm",
    "CudnnBatchNorm",
)


class Flow:
    """The graph behind a loss: who uses whose result. Drop it as soon as it is read; it keeps the graph alive."""

    def __init__(self, loss: Tensor) -> None:
        self._users: dict[Node, list[Node]] = {}
        self.near_loss: set[Node] = set()
        """Nodes with no weights between them and the loss, the last weight layers' own nodes included."""
        root = loss.grad_fn
        if root is None:
            return
        self._users[root] = []
        stack = [root]
        while stack:
            node = stack.pop()
            for source in _sources(node):
                if source not in self._users:
                    self._users[source] = []
                    stack.append(source)
                self._users[source].append(node)
        stack = [root]
        while stack:
            node = stack.pop()
            self.near_loss.add(node)
            if not has_weights(node):
                stack.extend(source for source in _sources(node) if source not in self.near_loss)

    def reaches_loss(self, node: Node) -> bool:
        """Whether the gradient of the loss comes by here."""
        return node is not None and node in self._users

    def users(self, node: Node) -> list[tuple[Node, Node]]:
        """Who really computes with a node's result, each with the node that hands it over (itself or a view of it)."""
        found, seen, stack = [], {node}, [node]
        while stack:
            giver = stack.pop()
            for user in self._users.get(giver, ()):
                if _moves(user) or _is_dropout(user):
                    if user not in seen:
                        seen.add(user)
                        stack.append(user)
                else:
                    found.append((user, giver))
        return found

    def gates(self, node: Node) -> tuple[bool, bool]:
        """Whether (some, every) use of a node multiplies it with another computed tensor: a gate, not a layer's output."""
        uses = self.users(node)
        gated = [self._multiplies(user, giver) for user, giver in uses]
        return any(gated), bool(gated) and all(gated)

    def _multiplies(self, user: Node, giver: Node) -> bool:
        name = _name(user)
        if name.startswith(("Rsub", "Add", "Sub")) and len(_sources(user)) == 1:
            return self.gates(user)[0]  # 1 - z in a gated recurrent cell, 1 + tanh in a hand-written GELU
        if not name.startswith(("Mul", "Lerp", "Addcmul", "Pow")):
            return False
        if name.startswith("Pow"):
            return True
        sources = _sources(user)
        others = [s for s in sources if s is not giver]
        return len(sources) > 1 and (not others or any(not _is_leaf(s) for s in others))

    def weighs_values(self, node: Node) -> bool:
        """Whether a softmax's result is multiplied, as a matrix, with computed values: attention."""
        for user, giver in self.users(node):
            if _name(user).startswith(("Bmm", "Baddbmm", "Mm")):
                others = [s for s in _sources(user) if s is not giver]
                if any(not _is_leaf(s) for s in others):
                    return True
        return False

    def scales_scores(self, node: Node) -> bool:
        """Whether anything between the queries' and keys' layers and a softmax multiplies: the factor 1 / sqrt(width)."""
        node, products = _sources(node)[0], 0
        stack, seen = [node], {node}
        while stack:
            node = stack.pop()
            if has_weights(node):
                products += 1
                if products > 1:  # beyond the product of queries and keys: their own layers
                    continue
            elif not (_moves(node) or _name(node).startswith(("Add", "Where"))):
                return True
            for source in _sources(node):
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return products == 0

    def between_layers(self, node: Node) -> bool:
        """Whether a node stands directly between two weight layers that have a bias, as a hidden activation does."""
        before = [_through_views(s) for s in _sources(node)]
        after = [user for user, _ in self.users(node)]
        return bool(before and after) and all(_name(n).startswith(("Addmm", "Linear")) for n in (*before, *after))

    def on_a_layer(self, node: Node) -> bool:
        """Whether a node takes the result of a weight layer that has a bias as it is."""
        before = [_through_views(s) for s in _sources(node)]
        return bool(before) and all(_name(n).startswith(("Addmm", "Linear", "Convolution")) for n in before)

    def linear_chain(self) -> tuple[Tensor, ...]:
        """The weights of a network without any non-linearity before its last layer, input side first; else nothing.

        Only plain chains are followed: at a sum or product of two computed tensors, an embedding or anything else, the answer
        is nothing.
        """
        ends = [node for node in self.near_loss if has_weights(node)]
        if len(ends) != 1:
            return ()
        weights: list[Tensor] = []
        node: Node = ends[0]
        while True:
            leaves = [s for s in _sources(node) if _is_leaf(s)]
            others = [s for s in _sources(node) if not _is_leaf(s)]
            if len(others) > 1:
                return ()
            if _name(node).startswith(("Addmm", "Mm", "Linear", "Convolution")):
                matrices = [_through_views(leaf).variable for leaf in leaves]
                matrices = [m for m in matrices if m.ndim > 1]
                if len(matrices) != 1:
                    return ()
                weights.append(matrices[0])
            elif not _is_linear(node):
                return ()
            if not others:
                return tuple(reversed(weights))
            node = others[0]

    def same_values(self, node: Node, tensor: Tensor) -> bool:
        """Whether a tensor is a node's result, or a view of it."""
        return tensor.grad_fn is not None and _through_views(tensor.grad_fn) is _through_views(node)


def has_weights(node: Node) -> bool:
    """Whether a node multiplies by weights (or matrices)."""
    return _name(node).startswith(_WEIGHTS)


def _sources(node: Node) -> list[Node]:
    return [source for source, _ in node.next_functions if source is not None]


def _name(node: Node) -> str:
    name: str = node.name()
    return name


def _moves(node: Node) -> bool:
    return _name(node).startswith(_SHAPE)


def _is_dropout(node: Node) -> bool:
    # On the CPU dropout is a product with a mask that has no history.
    name = _name(node)
    return name.startswith(("Mul", "Div")) and len(_sources(node)) == 1 and node.next_functions[-1][0] is None


def _is_linear(node: Node) -> bool:
    name = _name(node)
    if name.startswith(("Mul", "Div")):  # by a number; a mask may depend on the values, as in x * (x > 0)
        other = getattr(node, "_saved_other", None)
        return isinstance(other, Tensor) and other.ndim == 0
    return (_moves(node) and not name.startswith("MaskedFill")) or name.startswith(_AFFINE)


def _through_views(node: Node) -> Node:
    while _moves(node) and _sources(node):
        node = _sources(node)[0]
    return node


def _is_leaf(node: Node) -> bool:
    return "AccumulateGrad" in _name(_through_views(node))
