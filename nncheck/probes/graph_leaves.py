"""The leaves of the loss's graph against the model's parameters against the optimizer's: who is trained, who is forgotten."""

from __future__ import annotations

import gc
import linecache
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.lab.batch import named_tensors
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.graph import leaves
from nncheck.observe.holders import Holder, find_holders
from nncheck.observe.source import is_users, layer_place, place_at
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Attributes that torch accepts on a parameter without a word, meant for `requires_grad`.
_TYPOS = ("require_grad", "requires_gradient", "require_gradient", "required_grad", "requires_grads", "requiers_grad")


@dataclass(frozen=True, kw_only=True)
class Stray:
    """A tensor the loss depends on that is no parameter of the model.

    path, how: who holds it, as in `holders.Holder`; how is "forward" if a new one is made in every forward and "unknown" if
    nobody was found. asleep: its module is in eval mode, as a frozen network is. parameter: an `nn.Parameter`.
    """

    path: str
    how: str
    shape: tuple[int, ...]
    optimized: bool
    elsewhere: bool
    asleep: bool
    parameter: bool
    place: Place | None
    used: Place | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Uncovered:
    """A trainable parameter of the model that the loss depends on and the optimizer does not hold.

    elsewhere: another live optimizer holds it. asleep: its module is in eval mode.
    """

    name: str
    shape: tuple[int, ...]
    elsewhere: bool
    asleep: bool
    place: Place | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One optimizer group. scheduled: a scheduler or the user's own step sets its rate."""

    index: int
    rate: float
    scheduled: bool
    names: tuple[str, ...]
    trainable: int


@dataclass(frozen=True, kw_only=True)
class Typo:
    """An attribute that looks like `requires_grad = False` and does nothing. names: parameters that train all the same."""

    attribute: str
    owner: str
    names: tuple[str, ...]
    place: Place | None


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two modules of one shape with equal values, both trained: a teacher or moving average is given to the optimizer."""

    teacher: str
    student: str
    place: Place | None


@dataclass(frozen=True, kw_only=True)
class GraphLeaves:
    """covered: trainable parameters of the model in the optimizer. trained: of these, those the loss depends on.
    stale: shapes of optimizer parameters that nothing uses and no live object of the set-up holds. repeated: names of
    parameters that the optimizer holds more than once. frozen: parameters with requires_grad False, in the model.
    random_head: a frozen last layer whose weights are torch's own random start; share: of all weights, what is trained.
    """

    covered: tuple[str, ...]
    trained: tuple[str, ...]
    frozen: int
    share: float
    uncovered: tuple[Uncovered, ...]
    strays: tuple[Stray, ...]
    stale: tuple[tuple[int, ...], ...]
    repeated: tuple[str, ...]
    groups: tuple[Group, ...]
    typos: tuple[Typo, ...]
    twins: tuple[Twins, ...]
    random_head: Place | None
    optimizer: str
    optimizer_place: Place | None
    default_optimizer: bool


@probe
def graph_leaves(sandbox: Sandbox) -> GraphLeaves:
    """Walks back from the loss of the first batch; a second forward only if a tensor is found that nobody registered."""
    setup, optimizer = sandbox.setup, sandbox.optimizer
    batch = sandbox.feed.first
    with sandbox.trial() as model:
        named = {id(p): (n, p) for n, p in model.named_parameters() if not nn.parameter.is_lazy(p)}
        uses = _Uses(known=set(named))
        reached = leaves(sandbox.forward(batch, calls=(uses,)).loss)
        given = {id(t) for _, t in named_tensors(batch)}
        loose = {key: t for key, t in reached.items() if key not in named and key not in given}
        again = leaves(sandbox.forward(batch).loss) if loose else {}
        held = [p for group in optimizer.param_groups for p in group["params"]]
        held_ids = {id(p) for p in held}
        missing = {k for k, (_, p) in named.items() if p.requires_grad and k in reached and k not in held_ids}
        others = _other_optimizers(optimizer) if missing or loose else set()
        lost = [p for p in {id(p): p for p in held}.values() if id(p) not in named and id(p) not in reached]
        found = find_holders(_roots(sandbox), {*loose, *(id(p) for p in lost)}, model) if loose or lost else {}
        modules = dict(model.named_modules())
        return GraphLeaves(
            covered=tuple(n for k, (n, p) in named.items() if k in held_ids and p.requires_grad),
            trained=tuple(n for k, (n, p) in named.items() if k in held_ids and k in reached),
            frozen=sum(not p.requires_grad for _, p in named.values()),
            share=_share(named.values(), held_ids),
            uncovered=tuple(
                Uncovered(
                    name=named[k][0],
                    shape=tuple(named[k][1].shape),
                    elsewhere=k in others,
                    asleep=_asleep(modules, named[k][0]),
                    place=layer_place(model, named[k][0]),
                )
                for k in named
                if k in missing
            ),
            strays=tuple(
                stray
                for key, tensor in loose.items()
                if (stray := _stray(key, tensor, found.get(key), key in again, uses, held_ids, others)) is not None
            ),
            stale=tuple(tuple(p.shape) for p in lost if p.requires_grad and id(p) not in found),
            repeated=tuple(named[k][0] if k in named else f"a tensor {list(t.shape)}" for k, t in _repeated(held)),
            groups=_groups(sandbox, named),
            typos=_typos(sandbox, named.values()),
            twins=_twins(model, held_ids, reached),
            random_head=_random_head(model, uses.last, named),
            optimizer=type(optimizer).__name__,
            optimizer_place=setup.origins.get("optimizer"),
            default_optimizer=setup.default_optimizer,
        )


class _Uses:
    """Handler: where unregistered leaves are used, and which of the model's weight matrices is used last."""

    def __init__(self, known: set[int]) -> None:
        self._known = known
        self._places: list[tuple[Tensor, Place]] = []  # held, so that an id stays one tensor's
        self._seen: set[int] = set()
        self.last: int | None = None

    def __call__(self, call: Call) -> None:
        for value in (*call.args, *call.kwargs.values()):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if not isinstance(item, Tensor) or not item.is_leaf:
                    continue
                if id(item) in self._known:
                    if item.ndim > 1:
                        self.last = id(item)
                elif item.requires_grad and id(item) not in self._seen:
                    self._seen.add(id(item))
                    self._places.append((item, call.place()))

    def place(self, key: int) -> Place | None:
        return next((place for tensor, place in self._places if id(tensor) == key), None)


def _stray(
    key: int, tensor: Tensor, holder: Holder | None, stays: bool, uses: _Uses, held: set[int], others: set[int]
) -> Stray | None:
    parameter = isinstance(tensor, nn.Parameter)
    if holder is None and not parameter and not stays:
        return None  # an input or a perturbation that wants a gradient for one step
    path = holder.path if holder else ("a parameter made in forward" if not stays else "a tensor held elsewhere")
    return Stray(
        path=path,
        how=holder.how if holder else ("unknown" if stays else "forward"),
        shape=tuple(tensor.shape),
        optimized=key in held,
        elsewhere=key in others,
        asleep=holder is not None and not holder.training,
        parameter=parameter,
        place=holder.place if holder else None,
        used=uses.place(key),
    )


def _roots(sandbox: Sandbox) -> dict[str, Any]:
    setup = sandbox.setup
    parts: dict[str, Any] = {"model": sandbox.model, "loss_fn": setup.loss_fn, "training_step": setup.training_step}
    parts["train_step"] = setup.train_step
    module = sys.modules.get(type(sandbox.model).__module__)
    if module is not None and is_users(getattr(module, "__file__", None) or "<none>"):
        # What the user's file holds beside the model: a second network, centres of a loss, a discriminator.
        parts.update({k: v for k, v in vars(module).items() if isinstance(v, (nn.Module, Tensor, list, dict))})
    # The model's own attributes have no prefix: `layers[0].weight`.
    return {("" if part == "model" else part): value for part, value in parts.items() if value is not None}


def _other_optimizers(own: torch.optim.Optimizer) -> set[int]:
    """Ids of all parameters that other living optimizers hold: a GAN's second optimizer is nowhere in the set-up."""
    found: set[int] = set()
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.optim.Optimizer) and thing is not own and hasattr(thing, "param_groups"):
            found |= {id(p) for group in thing.param_groups for p in group["params"]}
    return found


def _asleep(modules: Mapping[str, nn.Module], name: str) -> bool:
    module = modules.get(name.rpartition(".")[0])
    return module is not None and not module.training


def _repeated(held: list[Tensor]) -> list[tuple[int, Tensor]]:
    seen: set[int] = set()
    found = []
    for tensor in held:
        if id(tensor) in seen:
            found.append((id(tensor), tensor))
        seen.add(id(tensor))
    return found


def _share(named: Iterable[tuple[str, Tensor]], held: set[int]) -> float:
    sizes = [(p.numel(), p.requires_grad and id(p) in held) for _, p in named]
    total = sum(n for n, _ in sizes)
    return sum(n for n, trained in sizes if trained) / total if total else 0.0


def _groups(sandbox: Sandbox, named: Mapping[int, tuple[str, Tensor]]) -> tuple[Group, ...]:
    groups = []
    code = getattr(sandbox.setup.train_step, "__code__", None)
    by_hand = code is not None and ("lr" in code.co_consts or "lr" in code.co_names)
    for index, group in enumerate(sandbox.optimizer.param_groups):
        names = tuple(named[id(p)][0] for p in group["params"] if id(p) in named)
        groups.append(
            Group(
                index=index,
                rate=float(group.get("lr", 1.0)),
                # Schedulers write `initial_lr` when they are made, whoever steps them.
                scheduled=by_hand or float(group.get("initial_lr", 0.0)) > 0,
                names=names,
                trainable=sum(p.requires_grad for p in group["params"]),
            )
        )
    return tuple(groups)


def _typos(sandbox: Sandbox, named: Iterable[tuple[str, Tensor]]) -> tuple[Typo, ...]:
    found = []
    for attribute in _TYPOS:
        names = tuple(n for n, p in named if p.requires_grad and vars(p).get(attribute) is False)
        if names:
            found.append(
                Typo(attribute=attribute, owner=names[0], names=names, place=_written(sandbox, names[0], attribute))
            )
    for owner, module in sandbox.model.named_modules():
        # A module has the method `requires_grad_`; an attribute `requires_grad` is only an attribute.
        if vars(module).get("requires_grad") is False and not hasattr(type(module), "requires_grad"):
            names = tuple(f"{owner}.{n}" if owner else n for n, p in module.named_parameters() if p.requires_grad)
            if names:
                where = owner or type(module).__name__
                place = _written(sandbox, where, "requires_grad", before=where.rpartition(".")[2])
                found.append(Typo(attribute="requires_grad", owner=where, names=names, place=place))
    return tuple(found)


def _written(sandbox: Sandbox, name: str, attribute: str, before: str = "") -> Place | None:
    """The line of the user's files that assigns False to such an attribute."""
    files = {p.file for p in sandbox.setup.origins.values() if p.file}
    for module in sandbox.model.modules():
        home = getattr(sys.modules.get(type(module).__module__), "__file__", None)
        if home and is_users(home):
            files.add(home)
    pattern = re.compile(rf"\.{attribute}\s*=\s*False")
    hits = [(f, i) for f in sorted(files) for i, text in enumerate(linecache.getlines(f), 1) if pattern.search(text)]
    exact = [(f, i) for f, i in hits if before and f"{before}.{attribute}" in linecache.getline(f, i)]
    chosen = exact or hits
    return place_at(name, *chosen[0]) if chosen and (exact or not before) else None


def _twins(model: nn.Module, held: set[int], reached: Mapping[int, Tensor]) -> tuple[Twins, ...]:
    """Children named as a teacher whose values all equal a sibling's, while both are trained."""
    found = []
    for name, module in model.named_children():
        if not re.search(r"teacher|ema|momentum|target", name, re.IGNORECASE):
            continue
        mine = list(module.parameters())
        if not mine or not all(p.requires_grad and id(p) in held and id(p) in reached for p in mine):
            continue
        for other, sibling in model.named_children():
            theirs = list(sibling.parameters())
            if other == name or [p.shape for p in theirs] != [p.shape for p in mine] or theirs[0] is mine[0]:
                continue
            if all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True)):
                found.append(Twins(teacher=name, student=other, place=layer_place(model, name)))
    return tuple(found)


# torch starts Linear and Conv weights uniformly in +-1/sqrt(fan_in): largest magnitude just below it, std 1/sqrt(3 fan_in).
_BOUND, _STD_OFF = 1.0 + 1e-6, 0.1


def _random_head(model: nn.Module, last: int | None, named: Mapping[int, tuple[str, Tensor]]) -> Place | None:
    """The last weight matrix used, if it is frozen at torch's default random start."""
    if last is None or last not in named or named[last][1].requires_grad:
        return None
    name, weight = named[last]
    fan_in = weight[0].numel()
    value = weight.detach().float()
    if weight.numel() < 64 or float(value.abs().max()) * math.sqrt(fan_in) > _BOUND:
        return None
    if abs(float(value.std()) * math.sqrt(3 * fan_in) - 1) > _STD_OFF:
        return None
    return layer_place(model, name)
