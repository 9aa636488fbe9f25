"""BatchNorm's numbers and what dropout reaches, in one or a few passes in train mode."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nncheck.lab.indices import length_of
from nncheck.lab.modes import set_mode
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.training import trainable
from nncheck.losses.call import KINDS
from nncheck.observe.pretrained import FEWEST_BATCHES
from nncheck.observe.randomness import DROPOUTS
from nncheck.observe.source import is_users, layer_place, located
from nncheck.observe.watch import Call
from nncheck.registry import probe
from nncheck.verdict import Place

# Only batches this small are looked at for how much their statistics wander.
SMALL_BATCH = 4
# Batches by which that is measured: the variance of a channel's mean over eight is known to about a half, over the channels
# of a layer far better.
WANDERING_BATCHES = 8
_SOFT = {
    "softmax",
    "log_softmax",
    "sigmoid",
    "logsigmoid",
    "squeeze",
    "view",
    "reshape",
    "flatten",
    "permute",
    "transpose",
}


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """The momentum of a BatchNorm that the user's own code makes."""

    layer: str
    value: float
    place: Place


@dataclass(frozen=True, kw_only=True)
class Wandering:
    """How many independent values a BatchNorm's statistics come to: one channel's variance over that of its batch means.

    values: numbers in a channel of a batch. independent: what they are worth.
    """

    layer: str
    values: int
    independent: float
    place: Place


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What was seen of BatchNorm and dropout in train mode.

    planned: updates in the whole planned run; None if the epochs or the loader's length are not known.
    drifting: BatchNorms with learned statistics whose parameters are all frozen, but whose statistics a pass still updates.
    dropped: a dropout whose result goes to the loss without a layer in between: its rate, its place and the loss.
    """

    momenta: tuple[Momentum, ...]
    planned: int | None
    epoch: int | None
    drifting: tuple[Place, ...]
    wandering: tuple[Wandering, ...]
    batch_size: int
    dropped: tuple[float, Place, str] | None


@probe
def normalisation(sandbox: Sandbox) -> Normalisation:
    """One pass over the first batch; up to eight where batches are tiny and there is a BatchNorm."""
    model = sandbox.model
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    small = sandbox.feed.batch_size <= SMALL_BATCH and any(m.training for m in norms.values())
    dropped = _Dropped()
    means: dict[str, list[tuple[Tensor, Tensor, int]]] = {}

    def see_norm(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, _BatchNorm) and module.training and inputs and isinstance(inputs[0], Tensor):
            x = inputs[0].detach().double().transpose(0, 1).flatten(1) if inputs[0].ndim > 1 else None
            if x is not None:
                means.setdefault(name, []).append((x.mean(1), x.pow(2).mean(1), x.size(1)))

    drifting = _drifting(sandbox, norms)
    with sandbox.trial():
        for index, batch in enumerate(sandbox.feed.take(WANDERING_BATCHES if small else 1)):
            modules = (see_norm,) if small else ()
            sandbox.forward(batch, index=index, calls=(dropped,) if not index else (), modules=modules)
    return Normalisation(
        momenta=_momenta(sandbox, norms),
        planned=_planned(sandbox),
        epoch=length_of(sandbox.setup.train_loader),
        drifting=drifting,
        wandering=tuple(w for name, seen in means.items() if (w := _wandering(model, name, seen))),
        batch_size=sandbox.feed.batch_size,
        dropped=dropped.found,
    )


class _Dropped:
    """Handler: follows a dropout's result to a loss through nothing but reshapes and a softmax."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Tensor, float, Place]] = {}
        self.found: tuple[float, Place, str] | None = None

    def __call__(self, call: Call) -> None:
        first = call.args[0] if call.args else call.kwargs.get("input")
        if call.function in DROPOUTS:
            rate = call.kwargs.get("p", call.args[1] if len(call.args) > 1 else 0.5)
            active = call.kwargs.get("training", call.args[2] if len(call.args) > 2 else True)
            if active and 0 < rate < 1 and isinstance(call.result, Tensor):
                self._held[id(call.result)] = (call.result, float(rate), call.place())
        elif not self._held:
            return
        elif call.function in KINDS and self.found is None and id(first) in self._held:
            _, rate, place = self._held[id(first)]
            if call.function is not F.kl_div:
                self.found = (rate, place, KINDS[call.function])
        elif call.name in _SOFT and id(first) in self._held and isinstance(call.result, Tensor):
            _, rate, place = self._held[id(first)]
            self._held[id(call.result)] = (call.result, rate, place)


def _momenta(sandbox: Sandbox, norms: dict[str, _BatchNorm]) -> tuple[Momentum, ...]:
    found = []
    for name, module in norms.items():
        if isinstance(module.momentum, float) and module.track_running_stats and _users_own(sandbox.model, name):
            place = located(layer_place(sandbox.model, name), sandbox.setup.origins.get("model"))
            found.append(Momentum(layer=name, value=module.momentum, place=place))
    return tuple(found)


def _users_own(model: nn.Module, name: str) -> bool:
    """Whether a layer was put into the model by the user's code: no module around it is of a library other than torch."""
    module: Any = model
    for part in ["", *name.split(".")[:-1]]:
        module = module._modules[part] if part else module
        source = sys.modules.get(type(module).__module__)
        if type(module).__module__.partition(".")[0] != "torch" and not is_users(
            getattr(source, "__file__", None) or "<"
        ):
            return False
    return True


def _drifting(sandbox: Sandbox, norms: dict[str, _BatchNorm]) -> tuple[Place, ...]:
    learning = {id(p) for p in trainable(sandbox)}
    found = []
    with sandbox.trial():
        # As a loop calls it at each epoch's start: a `train()` of the user's own may keep the frozen part in eval mode.
        set_mode(sandbox.model, True)
        moving = {name for name, module in norms.items() if module.training}
    for name, module in norms.items():
        parameters = list(module.parameters())
        mean, variance = module.running_mean, module.running_var
        if not parameters or mean is None or variance is None or not module.training or name not in moving:
            continue
        if any(id(p) in learning for p in parameters) or not _learned(module):
            continue
        found.append(layer_place(sandbox.model, name, detail="statistics move, weights are frozen"))
    return tuple(found)


def _learned(module: _BatchNorm) -> bool:
    """Whether the statistics were learned before: counted, or loaded from a file that kept no count."""
    assert module.running_mean is not None
    assert module.running_var is not None
    count = int(module.num_batches_tracked) if module.num_batches_tracked is not None else 0
    moved = bool((module.running_mean != 0).any()) or bool((module.running_var != 1).any())
    return count >= FEWEST_BATCHES or (count == 0 and moved)


def _wandering(model: nn.Module, name: str, seen: list[tuple[Tensor, Tensor, int]]) -> Wandering | None:
    if len(seen) < 2:
        return None
    means = torch.stack([m for m, _, _ in seen])
    values = min(n for _, _, n in seen)
    total = torch.stack([s for _, s, _ in seen]).mean(0) - means.mean(0).pow(2)
    between = means.var(0)
    live = total > 1e-12 * total.max()
    if not bool(live.any()) or float(between[live].sum()) == 0:
        return None
    share = float((between[live] / total[live]).mean())
    return Wandering(
        layer=name, values=values, independent=min(float(values), 1 / share), place=layer_place(model, name)
    )


def _planned(sandbox: Sandbox) -> int | None:
    length, epochs = length_of(sandbox.setup.train_loader), sandbox.setup.epochs
    return None if length is None or not epochs else length * epochs
