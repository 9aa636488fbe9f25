"""Which optimizers take a script's steps, and whether what they train is what runs."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab.interception import Patches
from nncheck.observe.source import calling_place, layer_place
from nncheck.verdict import Place

# So many parameters are named.
NAMED = 5
# To look for every optimizer there is takes a tenth of a second.
MOST_LOOKS = 4


@dataclass(frozen=True, kw_only=True)
class OptimizersSeen:
    """What took the place of an optimizer that had stepped, while loader and weights stayed the same.

    kind: the class of the optimizer. anew: how often another one, made for the very same parameters, stepped from then on. lost:
    how often the one before had a state, such as momentum. lived: the most steps that one of them took. same_line: whether all of
    them are known to be made by one line, alike: the same options. made_at: that of the last.
    models: how often a model of the same kind, with an optimizer of its own, took the place of one that is gone.
    strange: parameters of the optimizer that no module which ran holds and no gradient reached: how many numbers.
    untrained: of those that ran, got a gradient and are in no optimizer, the first names; fresh: how many numbers. parameters: how
    many numbers the optimizer trains. replaced_at: where such a parameter's layer is made. times: steps at which that was so.
    """

    kind: str
    steps: int
    epochs: int
    anew: int
    lost: int
    lived: int
    same_line: bool
    made_at: Place | None
    models: int
    strange: int
    untrained: tuple[str, ...]
    fresh: int
    parameters: int
    replaced_at: Place | None
    times: int


@dataclass(kw_only=True)
class _Life:
    """One optimizer's life; nothing of the script's is kept alive. ids: of what it trains; sums: of its weights, last step."""

    kind: type
    ids: frozenset[int]
    options: tuple[Any, ...]
    place: Place | None
    model: weakref.ref[nn.Module] | None
    loaders: set[int]
    sums: tuple[float, ...] = ()
    steps: int = 0
    stateful: bool = False
    followed: bool = False


class Optimizers(Witness):
    """Follows optimizers from the first step of each; compares what they train with what runs."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._lives: weakref.WeakKeyDictionary[Any, _Life] = weakref.WeakKeyDictionary()
        self._order: list[_Life] = []
        self._made: weakref.WeakKeyDictionary[Any, Place] = weakref.WeakKeyDictionary()
        self._called = [weakref.ref(m) for m in course.roots if any(p.grad is not None for p in m.parameters())]
        self._loader: Any = course.loader
        self._anew: list[tuple[_Life, _Life]] = []
        self._models: list[tuple[_Life, _Life]] = []
        self._strange: tuple[int, tuple[str, ...], int, Place | None] = (0, (), 0, None)
        self._times = 0

    def begin(self) -> None:
        if id(self.course.optimizer) in self.course.made:
            self._made[self.course.optimizer] = self.course.made[id(self.course.optimizer)]
        made = Optimizer.__init__

        def begin(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            self._made[optimizer] = calling_place(type(optimizer).__name__)
            made(optimizer, *args, **kwargs)

        Patches().put(Optimizer, "__init__", begin)
        if self.course.first:
            self.step(self.course.optimizer)

    def batch(self, loader: Any, batch: Any) -> None:
        self._loader = loader

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled() and not any(module is m for m in self._ran):
            self._called.append(weakref.ref(module))

    @property
    def _ran(self) -> list[nn.Module]:
        """Modules that ran since the last step, those of them that the script still holds."""
        return [module for reference in self._called if (module := reference()) is not None]

    def step(self, optimizer: Any) -> None:
        if not self.course.its(optimizer):
            return
        life = self._lives.get(optimizer)
        if life is None:
            life = self._lives[optimizer] = self._born(optimizer)
            self._follows(life, optimizer)
            self._order.append(life)
        elif life.followed:  # it steps again: the others did not take its place
            life.followed = False
            self._anew = [pair for pair in self._anew if pair[0] is not life]
        life.loaders.add(id(self._loader))
        life.steps += 1
        self._compare(optimizer)

    def stepped(self, optimizer: Any) -> None:
        life = self._lives.get(optimizer)
        if life is not None:
            life.sums = _sums(optimizer)
            life.stateful = any(_holds_tensor(state) for state in optimizer.state.values())
        if self.course.its(optimizer):
            self._called = []

    def evidence(self) -> OptimizersSeen:
        lives = [self._order[0], *(new for _, new in self._anew)] if self._anew else self._order[:1]
        pairs = self._anew
        alike = bool(pairs) and all(
            old.place is not None and old.place == new.place and old.options == new.options for old, new in pairs
        )
        strange, untrained, fresh, replaced = self._strange
        return OptimizersSeen(
            kind=type(self.course.optimizer).__name__,
            steps=self.course.steps,
            epochs=self.course.epochs,
            anew=len(pairs),
            lost=sum(old.stateful for old, _ in pairs),
            lived=max((old.steps for old, _ in pairs), default=0),
            same_line=alike,
            made_at=lives[-1].place if lives else None,
            models=len(self._models),
            strange=strange,
            untrained=untrained,
            fresh=fresh,
            parameters=sum(p.numel() for p in _parameters(self.course.optimizer)),
            replaced_at=replaced,
            times=self._times,
        )

    def _born(self, optimizer: Any) -> _Life:
        ids = frozenset(id(p) for p in _parameters(optimizer))
        model = next((m for m in self._ran if any(id(p) in ids for p in m.parameters())), None)
        return _Life(
            kind=type(optimizer),
            ids=ids,
            options=tuple(
                (key, repr(value))
                for group in optimizer.param_groups
                for key, value in group.items()
                if key != "params"
            ),
            place=self._made.get(optimizer),
            model=None if model is None else weakref.ref(model),
            loaders=set(),
        )

    def _follows(self, life: _Life, optimizer: Any) -> None:
        """Note which one it takes the place of: the last with the same parameters, or of a model that is gone."""
        same = [old for old in self._order if old.kind is life.kind and id(self._loader) in old.loaders]
        for old in reversed(same):
            if old.ids == life.ids and not old.followed:
                if old.sums == _sums(optimizer):  # weights set back are a new beginning, with a new optimizer
                    old.followed = True
                    self._anew.append((old, life))
                return
        if same and life.model is not None:
            old = same[-1]
            now, before = life.model(), old.model() if old.model is not None else None
            gone = old.model is not None and (before is None or before is self.course.model)  # which we keep alive
            if gone and now is not None and now is not before and old.options == life.options:
                self._models.append((old, life))

    def _compare(self, optimizer: Any) -> None:
        """Look for parameters that the optimizer trains in vain, and for others that ran without it."""
        if self._times >= MOST_LOOKS:
            return
        ran = {id(p) for module in self._ran for p in module.parameters()}
        strange = [p for p in _parameters(optimizer) if id(p) not in ran and (p.grad is None or not p.grad.any())]
        if not strange or not self._ran:
            return
        reached = [
            (module, name, p)
            for module in self._ran
            for name, p in module.named_parameters()
            if p.requires_grad and p.grad is not None and bool(p.grad.any())
        ]
        trained = {id(p) for o in gc.get_objects() if issubclass(type(o), Optimizer) for p in _parameters(o)}
        fresh = [(module, name, p) for module, name, p in reached if id(p) not in trained]
        if fresh:
            module, name, _ = fresh[0]
            self._times += 1
            self._strange = (
                sum(p.numel() for p in strange),
                tuple(name for _, name, _ in fresh[:NAMED]),
                sum(p.numel() for _, _, p in fresh),
                layer_place(module, name, "runs, but is in no optimizer"),
            )


def _parameters(optimizer: Any) -> list[Tensor]:
    return [p for group in getattr(optimizer, "param_groups", ()) for p in group["params"]]


def _sums(optimizer: Any) -> tuple[float, ...]:
    """A trace of its weights by which a reset is seen; cheap, as it is taken at every step."""
    parameters = _parameters(optimizer)
    return tuple(float(p.detach().double().sum()) for p in (parameters[:1] + parameters[-1:]))


def _holds_tensor(state: Any) -> bool:
    """Whether one parameter's state is worth something: momentum, not only a count of steps."""
    return isinstance(state, dict) and any(
        (isinstance(value, Tensor) and value.dim() > 0) or (isinstance(value, list) and len(value) > 0)
        for value in state.values()
    )
