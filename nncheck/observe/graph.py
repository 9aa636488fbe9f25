"""What autograd recorded: the leaves a tensor was computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def nodes(root: Tensor) -> Iterator[Any]:
    """Every backward node behind a tensor, nearest first, each once."""
    if root.grad_fn is None:
        return
    # The set keeps the nodes' Python objects alive: a freed one could lend its identity to another.
    seen: set[Any] = {root.grad_fn}
    waiting = [root.grad_fn]
    while waiting:
        following: list[Any] = []
        for node in waiting:
            yield node
            for next_node, _ in node.next_functions:
                if next_node is not None and next_node not in seen:
                    seen.add(next_node)
                    following.append(next_node)
        waiting = following


def leaves(root: Tensor) -> dict[int, Tensor]:
    """The tensors a backward pass from `root` would give a `.grad`, by id."""
    if root.grad_fn is None:
        return {id(root): root} if root.requires_grad else {}
    found = {}
    for node in nodes(root):
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found[id(variable)] = variable
    return found
