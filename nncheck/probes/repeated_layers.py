"""One and the same layer that stands in a list several times: `[layer] * 3` is three times one layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.lineage import Node, sources
from nncheck.observe.source import class_place, is_users, layer_place, located
from nncheck.registry import probe
from nncheck.verdict import Place

# Nodes of the graph that are looked at between one call of a layer and the next: a block of a transformer has about forty.
_MOST = 4000


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A layer with trainable parameters that is several entries of one list or Sequential.

    name: of the list. layer: the name of its first entry that is this layer; module, owner: the classes of the layer and of what
    the list hangs in. entries: how many of the list's `length` entries it is; calls: of the layer in one pass. chained: how many
    of these go on from the result of an earlier one. size: its trainable numbers. users: whether the user wrote what owns it.
    """

    name: str
    layer: str
    module: str
    owner: str
    entries: int
    length: int
    calls: int
    chained: int
    size: int
    users: bool
    place: Place


@dataclass(frozen=True, kw_only=True)
class RepeatedLayers:
    """Every layer that is in a list more than once."""

    found: tuple[Repeated, ...]


@probe
def repeated_layers(sandbox: Sandbox) -> RepeatedLayers:
    """Nothing to do where no list has one layer twice; else one forward pass that sees what its calls are given."""
    repeated = _repeated(sandbox.model)
    if not repeated:
        return RepeatedLayers(found=())
    watched = {id(layer): _Calls() for _, _, layer, _ in repeated}

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if id(module) in watched:
            watched[id(module)].see(inputs, output)

    with sandbox.trial() as model:
        sandbox.forward(sandbox.feed.first, modules=(see,))
        found = tuple(_describe(sandbox, model, *entry, watched[id(entry[2])]) for entry in repeated)
        watched.clear()
    return RepeatedLayers(found=found)


def _repeated(model: nn.Module) -> list[tuple[str, nn.Module, nn.Module, int]]:
    """(name of a list, the list, a layer in it, how often it is there)."""
    rows: list[tuple[str, nn.Module, nn.Module, int]] = []
    for name, holder in model.named_modules():
        if isinstance(holder, (nn.ModuleList, nn.Sequential)):
            counts = Counter(id(layer) for layer in holder)
            rows += [
                (name, holder, layer, counts[id(layer)])
                for layer in {id(layer): layer for layer in holder}.values()
                if counts[id(layer)] > 1 and any(p.requires_grad for p in layer.parameters())
            ]
    return rows


class _Calls:
    """The calls of one layer, and whether each is given what came of an earlier one."""

    def __init__(self) -> None:
        self.count = self.chained = 0
        self._made: set[Node] = set()

    def see(self, inputs: tuple[Any, ...], output: Any) -> None:
        given = [t.grad_fn for _, t in batches.named_tensors(inputs) if t.grad_fn is not None]
        self.count += 1
        self.chained += self._reaches(given)
        self._made.update(t.grad_fn for _, t in batches.named_tensors(output) if t.grad_fn is not None)

    def _reaches(self, nodes: list[Node]) -> bool:
        queue, seen = list(nodes), set(nodes)
        for node in queue:  # grows as it is walked: the nearest first
            if node in self._made:
                return True
            if len(seen) > _MOST:
                return False
            before = [source for source in sources(node) if source not in seen]
            seen.update(before)
            queue.extend(before)
        return False


def _describe(
    sandbox: Sandbox, model: nn.Module, name: str, holder: nn.Module, layer: nn.Module, entries: int, calls: _Calls
) -> Repeated:
    modules = dict(model.named_modules())
    owner, at = holder, name
    while isinstance(owner, (nn.ModuleList, nn.Sequential)) and at:
        at = at.rpartition(".")[0]
        owner = modules[at]
    first = next(key for key, entry in holder.named_children() if entry is layer)
    file = class_place(owner, "").file
    return Repeated(
        name=name or type(model).__name__,
        layer=f"{name}.{first}" if name else first,
        module=type(layer).__name__,
        owner=type(owner).__name__,
        entries=entries,
        length=len(list(holder._modules)),
        calls=calls.count,
        chained=calls.chained,
        size=sum(p.numel() for p in layer.parameters() if p.requires_grad),
        users=type(owner) in (nn.ModuleList, nn.Sequential) or (file is not None and is_users(file)),
        place=located(layer_place(model, name), sandbox.setup.origins.get("model")),
    )
