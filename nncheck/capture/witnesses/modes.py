"""In which mode a script trains its model, and in which it validates it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from nncheck.capture.witnesses.scoring import watch_scores
from nncheck.capture.witnesses.witness import Course, Witness
from nncheck.lab import batch as batches
from nncheck.lab.interception import Patches
from nncheck.observe.source import calling_place, is_users
from nncheck.verdict import Place

# So many layers are named.
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class ModesSeen:
    """Calls of the model that is trained, counted by mode; a model some of whose layers are in either mode counts as neither.

    layers: those of it that know the mode (dropout, batch norm), and train or lie among what does; named: the first few.
    trained_train, trained_eval: calls that a backward pass followed. began_in_eval: the first step's own was one of the latter.
    stayed: the first call that trained in eval mode after it had been put there, and validated in that mode.
    switched: where it was last put into eval mode before that. trained_at: the first call that trained in eval mode.
    validated_train, validated_eval: calls that scored data of another kind, without a backward pass.
    validated_at: one of those in train mode; active: the layers that were active then; scored: whether a loss function of torch's,
    or a comparison, was seen to take its result.
    """

    layers: int
    named: tuple[str, ...]
    trained_train: int
    trained_eval: int
    began_in_eval: bool
    stayed: Place | None
    switched: Place | None
    trained_at: Place | None
    validated_train: int
    validated_eval: int
    validated_at: Place | None
    active: tuple[str, ...]
    scored: bool


@dataclass(kw_only=True)
class _Call:
    """A call of the model without its tensors. keys: their contents, told apart; sizes: how many numbers each of them holds.

    flowed: a backward pass went through it. scored: its result was compared with something while gradients were off.
    """

    mode: str
    active: tuple[str, ...]
    place: Place
    keys: frozenset[tuple[Any, ...]]
    sizes: frozenset[int]
    gradients: bool
    flowed: bool = False
    scored: bool = False


class Modes(Witness):
    """Tells calls that train from those that validate: by the backward pass that goes through them, or does not."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self._held: set[int] = set()
        self._hold(course.optimizer)
        self._waiting: list[_Call] = []
        # The loader of which a whole pass may be a validation, how many batches it has given, and the calls they went into.
        self._passing: Any = None
        self._given = 0
        self._passed: list[_Call] = []
        self._batch: tuple[frozenset[Any], frozenset[int]] = (frozenset(), frozenset())
        self._counts = {"train": 0, "eval": 0}
        self._validated = {"train": 0, "eval": 0}
        self._began_in_eval = False
        self._switch: Place | None = None
        self._quiet_in_eval = False
        self._stayed: tuple[Place, Place | None] | None = None
        self._trained_at: Place | None = None
        self._wrong: _Call | None = None
        self._trained_on: set[tuple[Any, ...]] = set()

    def begin(self) -> None:
        mode, _ = self._mode(self.course.model)
        if mode in self._counts and self.course.first:
            self._counts[mode] += 1
            self._began_in_eval = mode == "eval"
        train = nn.Module.train

        def switched(module: Any, mode: bool = True) -> Any:
            if not mode and module.training and any(id(p) in self._held for p in module.parameters()):
                self._switch, self._quiet_in_eval = calling_place("eval mode"), False
            return train(module, mode)

        Patches().put(nn.Module, "train", switched)
        watch_scores(self._scored)

    def loader_begun(self, loader: Any) -> None:
        self._pass_over()
        if not self._same_data(loader):
            self._passing, self._given, self._passed = loader, 0, []

    def batch(self, loader: Any, batch: Any) -> None:
        if self._passing is not None and loader is not self._passing and self._same_data(loader):
            self._pass_over()  # it was left early, and training goes on
        tensors = list(_tensors(batch))
        self._batch = (_keys(tensors), _sizes(tensors))
        self._given += loader is self._passing

    def loader_over(self, loader: Any) -> None:
        if loader is self._passing:
            self._given = max(self._given, 2)  # a short one is over as well
            self._pass_over()

    def call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._waiting.append(self._seen(module, args, kwargs))

    def returned(self, module: nn.Module, output: Any) -> None:
        one = self._waiting[-1]
        if one.gradients:
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda _: setattr(one, "flowed", True))

    def backward(self, loss: Tensor) -> None:
        self._pass_over()

    def step(self, optimizer: Any) -> None:
        if not self.course.its(optimizer):
            return  # what it waits for may go into the next step of its own
        if type(optimizer) is type(self.course.optimizer):
            self._hold(optimizer)
        for one in self._waiting:
            if not one.flowed or one.mode not in self._counts:
                continue
            self._counts[one.mode] += 1
            self._trained_on |= one.keys
            if one.mode == "eval":
                self._trained_at = self._trained_at or one.place
                if self._counts["train"] and self._quiet_in_eval and self._stayed is None:
                    self._stayed = (one.place, self._switch)
        self._without_loader()
        self._waiting = []

    def evidence(self) -> ModesSeen:
        self._pass_over()
        self._without_loader()
        known = [name for name, _ in self._known(self.course.model)]
        return ModesSeen(
            layers=len(known),
            named=tuple(known[:NAMED]),
            trained_train=self._counts["train"],
            trained_eval=self._counts["eval"],
            began_in_eval=self._began_in_eval,
            stayed=self._stayed[0] if self._stayed else None,
            switched=self._stayed[1] if self._stayed else None,
            trained_at=self._trained_at,
            validated_train=self._validated["train"],
            validated_eval=self._validated["eval"],
            validated_at=self._wrong.place if self._wrong else None,
            active=self._wrong.active[:NAMED] if self._wrong else (),
            scored=self._wrong is not None and self._wrong.scored,
        )

    def _hold(self, optimizer: Any) -> None:
        self._held |= {id(p) for group in optimizer.param_groups for p in group["params"]}

    def _seen(self, module: nn.Module, args: Any, kwargs: Any) -> _Call:
        ours = any(id(p) in self._held for p in module.parameters())
        mode, active = self._mode(module) if ours else ("", ())
        tensors = list(_tensors((args, kwargs))) if ours else []
        on = torch.is_grad_enabled()
        one = _Call(
            mode=mode,
            active=active,
            place=calling_place(type(module).__name__),
            keys=_keys(tensors),
            sizes=_sizes(tensors),
            gradients=on,
        )
        self._quiet_in_eval |= mode == "eval" and (not on or self._passing is not None)
        keys, sizes = self._batch
        if ours and self._passing is not None and (one.keys & keys or one.sizes & sizes):
            self._passed.append(one)
        return one

    def _scored(self) -> None:
        """Something is compared with a target, or counted as right or wrong: what was called last is validated."""
        last = next((one for one in reversed(self._waiting) if one.keys), None)
        if last is not None and (not torch.is_grad_enabled() or self._passing is not None):
            last.scored = True

    def _pass_over(self) -> None:
        """The pass over another loader has ended, or has been left: with its first batch it is no pass."""
        if self._passing is not None and self._given > 1:
            self._count_validation(self._passed)
        self._passing, self._passed = None, []

    def _without_loader(self) -> None:
        """A script without loaders validates where it scores calls without gradients, on what it does not train on."""
        if self.course.loader is None:
            self._count_validation(
                [one for one in self._waiting if one.scored and not one.gradients and not one.keys & self._trained_on]
            )

    def _count_validation(self, calls: list[_Call]) -> None:
        # The same batch again and again, each time with other dropped units: chance is what is wanted.
        if any(first.keys & second.keys for first, second in pairwise(calls)):
            return
        for one in calls:
            if one.mode in self._validated:
                self._validated[one.mode] += 1
                if one.mode == "train" and (self._wrong is None or one.scored > self._wrong.scored):
                    self._wrong = one

    def _same_data(self, loader: Any) -> bool:
        """Whether a loader reads what is trained on: the loss there may be estimated in either mode."""
        ours = self.course.loader
        if ours is None:
            return False
        data, trained = _data(loader), _data(ours)
        if loader is ours or data is trained or getattr(data, "dataset", None) is trained:
            return True
        if isinstance(data, Subset) and isinstance(trained, Subset) and data.dataset is trained.dataset:
            return set(data.indices) <= set(trained.indices)
        return False

    def _mode(self, module: nn.Module) -> tuple[str, tuple[str, ...]]:
        """`train`, `eval`, or neither; and its layers that are active because of it."""
        known = list(self._known(module, frozen=True))
        active = tuple(name for name, layer in known if layer.training)
        if not known:
            return "", ()
        if module.training and active:
            return "train", active
        if not module.training and not active and next(self._known(module), None) is not None:
            return "eval", ()
        return "", active

    def _known(self, module: nn.Module, *, frozen: bool = False) -> Iterator[tuple[str, nn.Module]]:
        """Layers that know the mode. Unless `frozen`, only those that are trained or lie beside what is."""
        modules = dict(module.named_modules())
        for name, layer in modules.items():
            told = _told(layer)
            owner = layer if isinstance(layer, nn.modules.batchnorm._NormBase) else modules[name.rpartition(".")[0]]
            if told and (frozen or any(id(p) in self._held and p.requires_grad for p in owner.parameters())):
                yield f"{name or 'the model'} ({told})", layer


def _told(layer: nn.Module) -> str:
    """What a layer is, if train and eval mode differ for it."""
    kind = type(layer).__name__
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return f"{kind}, p={layer.p:g}" if layer.p > 0 else ""
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return kind if layer.track_running_stats else ""
    share = layer.dropout if isinstance(layer, (nn.RNNBase, nn.MultiheadAttention)) else 0.0
    if isinstance(layer, nn.RNNBase) and layer.num_layers == 1:
        share = 0.0
    if share > 0:
        return f"{kind}, dropout={share:g}"
    user: Any = type(layer)
    return f"{kind}, which asks self.training" if _asks(user) and _rate(layer) > 0 else ""


def _rate(layer: nn.Module) -> float:
    """The rate of a dropout that a module of the user's does by a function, where it keeps one; else 1."""
    found = [getattr(layer, name, None) for name in ("p", "dropout", "dropout_p", "drop", "drop_rate", "drop_prob")]
    return next((float(rate) for rate in found if isinstance(rate, (int, float))), 1.0)


@cache
def _asks(kind: Any) -> bool:
    """Whether a class of the user's does one thing in train mode and another in eval mode by itself (`F.dropout`)."""
    try:
        file = inspect.getsourcefile(kind)
        return file is not None and is_users(file) and "self.training" in inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return False


def _data(loader: Any) -> Any:
    return getattr(loader, "dataset", loader)


def _tensors(value: Any) -> Iterator[Tensor]:
    return (tensor for _, tensor in batches.named_tensors(value))


def _keys(tensors: list[Tensor]) -> frozenset[tuple[Any, ...]]:
    """What tells one tensor's content from another's: addresses are used again."""
    plain = [t.detach() for t in tensors if t.layout is torch.strided and t.numel() > 1]
    return frozenset((tuple(t.shape), float(t.double().sum()), float(t.flatten()[-1])) for t in plain)


def _sizes(tensors: list[Tensor]) -> frozenset[int]:
    return frozenset(t.numel() for t in tensors)
