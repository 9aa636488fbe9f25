"""Why parameters get no gradient: never used, cut off at a line, or used for something that the loss does not contain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncheck.lab.sandbox import Sandbox
from nncheck.observe.graph import leaves
from nncheck.observe.pretrained import as_made
from nncheck.observe.source import class_place, is_users, layer_place
from nncheck.observe.watch import Call
from nncheck.probes.gradients import Gradients, ParameterGradients
from nncheck.registry import probe
from nncheck.verdict import Place

Why = Literal["never used", "cut", "no_grad", "dropped"]

# What takes values out of the graph, as torch calls it; `__get__` is the `.data` attribute.
_CUTS = frozenset(
    {"detach", "detach_", "__get__", "item", "tolist", "numpy", "__array__", "tensor", "as_tensor", "new_tensor", "argmax",
     "__float__", "asarray"}
)  # fmt: skip
_ROUTING = frozenset(
    {"topk", "argmax", "multinomial", "gumbel_softmax", "sort", "argsort", "one_hot", "nonzero", "where", "bincount", "eq",
     "__eq__", "index_add", "index_add_", "scatter", "scatter_add_", "rand", "bernoulli"}
)  # fmt: skip
# A cut is searched for what lies behind it; an output that is logged by hundreds of `.item()` is looked at this often.
_LOOKS = 64


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The largest module all of whose trainable parameters are without gradient (or one parameter by itself).

    silent: they get gradients, all exactly zero. module: its class. owner: class of the module it hangs in, and `users`
    whether the user wrote that class or it is torch's. siblings: modules of the same class beside it that do learn.
    routed: a choice such as top-k is made beside it. calls: how often it ran in the pass looked at. cut, line: what cut it
    off, and where. zeroed: a factor of exactly 0 stands before it. asleep: in eval mode. fresh: its weights are as torch made
    them. optimized: how many of its parameters the optimizer holds. drifted: its values change without the optimizer.
    """

    name: str
    module: str
    names: tuple[str, ...]
    size: int
    why: Why
    silent: bool
    owner: str
    users: bool
    siblings: int
    routed: bool
    calls: int
    asleep: bool
    fresh: bool
    zeroed: bool
    optimized: int
    drifted: bool
    cut: str
    line: Place | None
    place: Place


@dataclass(frozen=True, kw_only=True)
class Unreached:
    """Branches that got no gradient in any step."""

    branches: tuple[Branch, ...]


@probe
def unreached(sandbox: Sandbox, seen: Gradients) -> Unreached:
    """Nothing to do while every parameter gets a gradient; else one more forward that follows the values."""
    trainable = seen.trainable
    rows = {row.name: row for row in trainable if not row.reached or row.silent}
    if not rows or not all(map(math.isfinite, seen.losses)):
        return Unreached(branches=())
    with sandbox.trial() as model:
        parameters = dict(model.named_parameters())
        follow = _Follow({id(parameters[name]): name for name in rows})
        sandbox.forward(sandbox.feed.first, calls=(follow,), modules=(follow.module,))
        groups = [
            *_group(model, [r for r in rows.values() if not r.reached]),
            *_group(model, [r for r in rows.values() if r.reached]),
        ]
        learning = {row.name for row in trainable if row.name not in rows}
        return Unreached(
            branches=tuple(_branch(model, name, members, follow, learning) for name, members in groups),
        )


class _Follow:
    """Handler: sees where the wanted parameters are used, and where what was made from them leaves the graph."""

    def __init__(self, wanted: dict[int, str]) -> None:
        self._wanted = wanted
        self._looks = 0
        self.used: set[str] = set()
        self.without_grad: dict[str, Place] = {}
        self.cuts: dict[str, tuple[str, Place]] = {}
        self.zeroed: set[str] = set()
        self.ran: dict[str, int] = {}
        self.routing: set[str] = set()

    def module(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.ran[name] = self.ran.get(name, 0) + 1

    def __call__(self, call: Call) -> None:
        tensors = list(_tensors((*call.args, *call.kwargs.values())))
        for tensor in tensors:
            name = self._wanted.get(id(tensor))
            if name is not None and call.name not in ("__get__", "dim", "size", "numel"):
                self.used.add(name)
                if not torch.is_grad_enabled():
                    self.without_grad.setdefault(name, call.place("under no_grad"))
        if call.name in _ROUTING:
            self.routing.add(call.layer)
        if call.name in _CUTS:
            self._look(call, tensors, lambda name: self.cuts.setdefault(name, (_says(call), call.place())))
        elif call.name in ("mul", "__mul__", "__rmul__", "mul_", "__imul__") and _times_zero(call):
            self._look(call, tensors, self.zeroed.add)

    def _look(self, call: Call, tensors: Sequence[Tensor], note: Any) -> None:
        if self._looks >= _LOOKS or (
            isinstance(call.result, Tensor) and call.result.requires_grad and call.name in _CUTS
        ):
            return
        for tensor in tensors:
            if tensor.requires_grad and tensor.grad_fn is not None:
                self._looks += 1
                for key in leaves(tensor).keys() & self._wanted.keys():
                    note(self._wanted[key])


def _tensors(values: Sequence[Any]) -> Sequence[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(_tensors(value))
    return found


def _says(call: Call) -> str:
    return ".data" if call.name == "__get__" else f"{call.name}()"


def _times_zero(call: Call) -> bool:
    return any(isinstance(v, (int, float)) and not isinstance(v, bool) and v == 0 for v in call.args)


def _group(model: nn.Module, rows: Sequence[ParameterGradients]) -> list[tuple[str, list[ParameterGradients]]]:
    """Rows gathered under the largest module whose trainable parameters are all among them."""
    names = {row.name for row in rows}
    whole: list[str] = []
    for name, module in model.named_modules():
        own = [f"{name}.{n}" if name else n for n, p in module.named_parameters() if p.requires_grad]
        if own and names.issuperset(own) and not any(name.startswith(f"{w}.") or not w for w in whole):
            whole.append(name)
    groups: dict[str, list[ParameterGradients]] = {}
    for row in rows:
        home = next((w for w in whole if not w or row.name.startswith(f"{w}.")), row.name)
        groups.setdefault(home, []).append(row)
    return list(groups.items())


def _branch(model: nn.Module, name: str, rows: list[ParameterGradients], follow: _Follow, learning: set[str]) -> Branch:
    modules = dict(model.named_modules())
    module = modules.get(name)
    owner = modules[name.rpartition(".")[0]] if name else model
    while isinstance(owner, (nn.ModuleList, nn.ModuleDict, nn.Sequential)) and owner is not model:
        outer = next(n for n, m in modules.items() if m is owner)
        owner = modules[outer.rpartition(".")[0]]
    members = [row.name for row in rows]
    cut = next((follow.cuts[m] for m in members if m in follow.cuts), None)
    without = next((follow.without_grad[m] for m in members if m in follow.without_grad), None)
    used = any(m in follow.used for m in members)
    why: Why = "dropped" if used else "never used"
    if without is not None and cut is None:
        why = "no_grad"
    elif cut is not None:
        why = "cut"
    parent = name.rpartition(".")[0]
    return Branch(
        name=name or type(model).__name__,
        module="" if module is None else type(module).__name__,
        names=tuple(members),
        size=sum(row.size for row in rows),
        why=why,
        silent=rows[0].reached,
        owner=type(owner).__name__,
        users=_users_class(owner),
        siblings=_siblings(modules, name, learning),
        routed=any(layer == parent or parent.startswith(f"{layer}.") or not layer for layer in follow.routing),
        calls=sum(count for layer, count in follow.ran.items() if layer == name or layer.startswith(f"{name}.")),
        asleep=module is not None and not module.training and model.training,
        fresh=module is not None and as_made(module),
        zeroed=any(m in follow.zeroed for m in members),
        optimized=sum(row.rate is not None for row in rows),
        drifted=any(row.drifted for row in rows),
        cut=cut[0] if cut else "",
        line=cut[1] if cut else without,
        place=layer_place(model, name, detail="" if module is None else type(module).__name__),
    )


def _siblings(modules: dict[str, nn.Module], name: str, learning: set[str]) -> int:
    """Modules of the same class and shapes in the same list that do learn."""
    module = modules.get(name)
    parent = modules.get(name.rpartition(".")[0])
    if module is None or not name or not isinstance(parent, (nn.ModuleList, nn.ModuleDict)):
        return 0
    shapes = [p.shape for p in module.parameters()]
    prefix = name.rpartition(".")[0]
    return sum(
        type(other) is type(module)
        and [p.shape for p in other.parameters()] == shapes
        and any(n.startswith(f"{prefix}.{key}.") for n in learning)
        for key, other in parent.named_children()
    )


def _users_class(module: nn.Module) -> bool:
    place = class_place(module, "")
    # torch's own containers and layers hold what the user put into them.
    return (place.file is not None and is_users(place.file)) or type(module).__module__.startswith("torch.nn.")
