"""Save, load into a network with other weights, go on: does the next step come out as if nothing had happened?"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nncheck.errors import CannotMeasure, OutOfTime, TargetError
from nncheck.lab.modes import set_mode
from nncheck.lab.sandbox import Sandbox
from nncheck.lab.snapshot import Snapshot, seed_everything
from nncheck.lab.training import train, users_optimizer
from nncheck.observe.drawn import drawn_at
from nncheck.observe.loads import likeness, loads_of
from nncheck.observe.plain_state import Kept, differing, kept_state, plain_tensors
from nncheck.observe.source import is_users, layer_place, user_frames, words_of
from nncheck.probes.evaluation import Evaluation, distance, held_in_eval, kept_output
from nncheck.registry import probe
from nncheck.verdict import Place

# A random constant that moves no output by more than rounding does nothing.
MOVED = 1e-4


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Something that training changes and no state dict holds: its name, where it is made, and its kind.

    kind: "tensor", "number"; "weights" a tensor near a parameter of its shape, such as a moving average.
    """

    name: str
    kind: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class EarlierLoad:
    """Weights that the user's code loaded while the set-up was made: tensors given and fitting, and whether they are there yet.

    likeness: the correlation of what was loaded with what the model holds; NaN if nothing can be compared.
    """

    name: str
    given: int
    matched: int
    likeness: float
    place: Place


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """What became of one update, a save and a load, and of the step after it.

    refused: the words with which `load_state_dict` failed. untaken: names whose values are not what was loaded.
    untied: names that were one tensor before loading and are not after. copies: an output layer that begins as an exact copy
    of an embedding.
    outputs: distance of the eval outputs after loading from those before saving; update: of the next update, relative to its
    size; loss: of the next loss, relative; rates: the learning rates after the next step, without and with the round trip.
    lost: what differs after the step, outside the state dicts. noise: the largest of these distances between two runs without
    a round trip. compared: whether the model gives the same for the same input, so that outputs can be compared at all.
    random: tensors drawn when the model is made, kept outside the state dict, on which the output depends.
    """

    refused: str
    refused_place: Place | None
    untaken: tuple[str, ...]
    untied: tuple[tuple[str, ...], ...]
    copies: tuple[Place, ...]
    outputs: float
    update: float
    loss: float
    rates: tuple[float, float]
    lost: tuple[Lost, ...]
    random: tuple[Place, ...]
    optimizer: str
    scheduler: str
    noise: float
    compared: bool
    earlier: tuple[EarlierLoad, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run left: its eval outputs, the next update of every parameter, its loss, rates, and what is kept beside."""

    outputs: dict[str, Tensor]
    update: dict[str, Tensor]
    loss: float
    rate: float
    kept: dict[str, Kept]


@probe
def round_trip(sandbox: Sandbox, passes: Evaluation) -> RoundTrip:
    """One update, save, one more update; and again from the start, with the saved state loaded over other weights."""
    try:
        return replace(_trip(sandbox, passes), earlier=_earlier(sandbox.model))
    except TargetError as error:  # an update that fails has a check of its own
        raise CannotMeasure(f"an update fails: {error.message}") from error


def _trip(sandbox: Sandbox, passes: Evaluation) -> RoundTrip:
    feed = sandbox.feed.take(2)
    first, second = feed[0], feed[-1]
    with sandbox.trial():
        optimizer, _ = users_optimizer(sandbox)
        _learn(sandbox, first, optimizer, 0)
        saved = _save(sandbox)
        tied = _tied(sandbox.model)
        reached = Snapshot((sandbox.model, sandbox.optimizer, sandbox.setup.scheduler, sandbox.setup.loss_fn))
        straight = _go_on(sandbox, second, optimizer)
        near = _near_weights(sandbox, straight.kept)
    with sandbox.trial():
        optimizer, _ = users_optimizer(sandbox)
        try:
            _load(sandbox, saved)
        except (OutOfTime, KeyboardInterrupt, TargetError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever the user's own load_state_dict raises is the finding
            return _refused(sandbox, error)
        untaken, untied = _untaken(sandbox.model, saved["model"]), _untied(sandbox.model, tied)
        resumed = _go_on(sandbox, second, optimizer)
    outputs = distance(straight.outputs, resumed.outputs) if not passes.again else 0.0
    update, loss = _apart(straight, resumed)
    noise = _noise(sandbox, reached, second, straight) if max(outputs, update, loss) > 0 else 0.0
    transient = {item.name for item in passes.state}
    lost = [name for name, _, _ in differing(straight.kept, resumed.kept) if name not in transient]
    return RoundTrip(
        refused="",
        refused_place=None,
        untaken=untaken,
        untied=untied,
        copies=_copies(sandbox.model),
        outputs=outputs,
        update=update,
        loss=loss,
        rates=(straight.rate, resumed.rate),
        lost=tuple(
            Lost(name=name, kind=_kind(straight.kept[name].value, name in near), place=_place(sandbox, name))
            for name in lost
        ),
        random=_random_constants(sandbox, first),
        optimizer=type(sandbox.optimizer).__name__,
        scheduler=type(sandbox.setup.scheduler).__name__ if sandbox.setup.scheduler is not None else "",
        noise=noise,
        compared=not passes.again,
    )


def _earlier(model: nn.Module) -> tuple[EarlierLoad, ...]:
    return tuple(
        EarlierLoad(
            name=name,
            given=loaded.given,
            matched=loaded.matched,
            likeness=likeness(module, loaded),
            place=loaded.place,
        )
        for name, module, loaded in loads_of(model)
    )


def _learn(sandbox: Sandbox, batch: Any, optimizer: torch.optim.Optimizer, index: int) -> float:
    loss = float("nan")
    for update in train(sandbox, [batch], optimizer, begin=index):
        loss = update.loss
    _step(sandbox.setup.scheduler, loss)
    return loss


def _step(scheduler: Any, loss: float) -> None:
    if not hasattr(scheduler, "step"):
        return
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    try:
        scheduler.step(loss) if plateau else scheduler.step()
    except Exception:  # noqa: BLE001  # a schedule at its end, or one that wants arguments, is another check's affair
        return


def _owners(sandbox: Sandbox) -> dict[str, Any]:
    setup = sandbox.setup
    owners = {
        "model": sandbox.model,
        "optimizer": sandbox.optimizer,
        "scheduler": setup.scheduler,
        "loss_fn": setup.loss_fn,
    }
    return {name: owner for name, owner in owners.items() if hasattr(owner, "state_dict")}


def _save(sandbox: Sandbox) -> dict[str, Any]:
    return {name: copy.deepcopy(owner.state_dict()) for name, owner in _owners(sandbox).items()}


def _load(sandbox: Sandbox, saved: dict[str, Any]) -> None:
    """Everything the state dicts hold gets other values first, as in a network that is made anew."""
    generator = torch.Generator().manual_seed(sandbox.seed + 1)
    owners = _owners(sandbox)
    with torch.no_grad():
        for name in ("model", "loss_fn"):
            owner = owners.get(name)
            if not isinstance(owner, nn.Module):
                continue
            for tensor in owner.state_dict().values():
                if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.layout is torch.strided:
                    noise = torch.rand(tensor.shape, generator=generator).to(tensor)
                    tensor.add_(noise) if 0 not in tensor.stride() or tensor.numel() < 2 else None
    for name, state in saved.items():
        owner = owners[name]
        try:
            owner.load_state_dict(copy.deepcopy(state))
        except RuntimeError:
            # A class that saves only a part, such as its adapters, is loaded as one: what it saves must arrive.
            if not isinstance(owner, nn.Module) or type(owner).state_dict is nn.Module.state_dict:
                raise
            owner.load_state_dict(copy.deepcopy(state), strict=False)


def _go_on(sandbox: Sandbox, batch: Any, optimizer: torch.optim.Optimizer) -> _Run:
    """Eval outputs, then one more update."""
    model = sandbox.model
    modes = [(module, module.training) for module in model.modules()]
    set_mode(model, False)
    seed_everything(sandbox.seed)
    with held_in_eval(model), torch.no_grad():
        outputs = kept_output(_predict(sandbox, batch))
    for module, training in modes:
        module.training = training
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = _learn(sandbox, batch, optimizer, 1)
    return _Run(
        outputs=outputs,
        update={
            name: p.detach() - before[name] for name, p in model.named_parameters() if p.shape == before[name].shape
        },
        loss=loss,
        rate=float(optimizer.param_groups[0].get("lr", 0.0)),
        kept=_beside(sandbox),
    )


def _predict(sandbox: Sandbox, batch: Any) -> Any:
    try:
        return sandbox.predict(batch)
    except TargetError:  # a step that needs gradients
        with torch.enable_grad():
            return sandbox.predict(batch)


def _beside(sandbox: Sandbox) -> dict[str, Kept]:
    found = kept_state(sandbox.model, buffers=False)
    for name, owner in (("loss_fn", sandbox.setup.loss_fn), ("optimizer", sandbox.optimizer)):
        if owner is not None and is_users(_file_of(owner)):
            found |= {f"{name}.{inner}": kept for inner, kept in kept_state(owner, buffers=False).items()}
    return found


def _file_of(owner: Any) -> str:
    return getattr(sys.modules.get(type(owner).__module__), "__file__", None) or "<none>"


def _apart(one: _Run, other: _Run) -> tuple[float, float]:
    """How far two updates are apart, relative to the first's size, and two losses."""
    pairs = [(a, other.update[name]) for name, a in one.update.items() if name in other.update]
    size = sum(float(a.double().pow(2).sum()) for a, _ in pairs)
    between = sum(float((a.double() - b.double()).pow(2).sum()) for a, b in pairs)
    update = (between / size) ** 0.5 if size > 0 else 0.0
    loss = abs(one.loss - other.loss) / max(abs(one.loss), abs(other.loss), 1e-12)
    return (update if update == update else 0.0), (loss if loss == loss else 0.0)


def _noise(sandbox: Sandbox, reached: Snapshot, second: Any, straight: _Run) -> float:
    """How far apart two runs without a round trip are, with all that model, loss, optimizer and schedule held after one update.

    Nothing on a CPU, if nothing draws unseeded numbers, and if the training step keeps nothing of its own from call to call,
    such as the hidden state of one long stream: no state dict could give that.
    """
    with sandbox.trial(start=reached):
        again = _go_on(sandbox, second, sandbox.optimizer)
    return max(*_apart(straight, again), distance(straight.outputs, again.outputs))


def _refused(sandbox: Sandbox, error: Exception) -> RoundTrip:
    places = user_frames(error)
    return RoundTrip(
        refused=f"{type(error).__name__}: {words_of(error)}", refused_place=places[-1] if places else None, untaken=(),
        untied=(), copies=(), outputs=0.0, update=0.0, loss=0.0, rates=(0.0, 0.0), lost=(), random=(),
        optimizer=type(sandbox.optimizer).__name__, scheduler="", noise=0.0, compared=False,
    )  # fmt: skip


def _untaken(model: nn.Module, saved: dict[str, Any]) -> tuple[str, ...]:
    now = model.state_dict()
    return tuple(
        name
        for name, value in saved.items()
        if isinstance(value, Tensor)
        and (
            name not in now
            or now[name].shape != value.shape
            or not torch.equal(now[name].nan_to_num(), value.nan_to_num())
        )
    )


def _tied(model: nn.Module) -> list[tuple[str, ...]]:
    """Names of one parameter, where it has several."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _untied(model: nn.Module, tied: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    now = dict(model.named_parameters(remove_duplicate=False))
    return tuple(names for names in tied if len({now[n].data_ptr() for n in names if n in now}) > 1)


def _copies(model: nn.Module) -> tuple[Place, ...]:
    """Output layers whose weights equal an embedding's, number by number, and are another tensor that learns by itself."""
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.weight.requires_grad]
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or not isinstance(getattr(module, "weight", None), nn.Parameter):
            continue
        for table in tables:
            weight = module.weight
            same = weight is not table and weight.requires_grad and weight.shape == table.shape
            if same and weight.data_ptr() != table.data_ptr() and torch.equal(weight, table) and bool(table.std() > 0):
                found.append(layer_place(model, f"{name}.weight", detail="equal to an embedding's, and another tensor"))
    return tuple(found)


def _near_weights(sandbox: Sandbox, kept: dict[str, Kept]) -> set[str]:
    """Names of kept tensors that lie near a parameter of their shape."""
    matrices = [p.detach() for p in sandbox.model.parameters() if p.ndim >= 2]
    found = set()
    for name, item in kept.items():
        value = item.value
        if not isinstance(value, Tensor) or value.ndim < 2:
            continue
        for p in matrices:
            if p.shape == value.shape and float((value - p).norm()) < 0.5 * float(p.norm()):
                found.add(name)
                break
    return found


def _kind(value: Any, near: bool) -> str:
    return "number" if not isinstance(value, Tensor) else "weights" if near else "tensor"


def _place(sandbox: Sandbox, name: str) -> Place:
    bare = re.split(r"\[", name)[0]
    if bare.startswith(("optimizer.", "loss_fn.")):
        part = bare.partition(".")[0]
        place = sandbox.setup.origins.get(part, Place(name=name))
        return dataclasses.replace(place, name=name, detail="")
    place = layer_place(sandbox.model, bare)
    return dataclasses.replace(place, name=name, detail="")


def _random_constants(sandbox: Sandbox, batch: Any) -> tuple[Place, ...]:
    """Floating-point tensors outside the state dict whose line in the user's class draws them, if the output depends on them."""
    drawn: dict[str, tuple[Tensor, Place]] = {}
    for name, tensor in plain_tensors(sandbox.model):
        if not tensor.is_floating_point() or not tensor.numel() or tensor.requires_grad:
            continue
        place = _place(sandbox, name)
        if drawn_at(place):
            drawn[name] = (tensor, place)
    if not drawn:
        return ()
    try:
        with sandbox.trial(mode="eval"), held_in_eval(sandbox.model), torch.no_grad():
            before = kept_output(_predict(sandbox, batch))
            for tensor, _ in drawn.values():
                tensor.add_(torch.rand_like(tensor))
            seed_everything(sandbox.seed)
            after = kept_output(_predict(sandbox, batch))
            moved = distance(before, after)
    except (CannotMeasure, TargetError):
        return ()
    return tuple(place for _, place in drawn.values()) if moved > MOVED else ()
