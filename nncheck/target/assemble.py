"""From a recipe to live objects: makes what are factories, fills in what is missing, says what it assumed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nncheck.errors import OutOfTime, TargetError
from nncheck.lab.indices import length_of
from nncheck.lab.modes import set_mode
from nncheck.lab.objective import Objective
from nncheck.lab.snapshot import seed_everything
from nncheck.observe.loads import noting_loads
from nncheck.observe.source import user_frames, words_of
from nncheck.recipe import PARTS, Recipe, Setup, call_factory, is_factory
from nncheck.target import lightning
from nncheck.verdict import Place

# AdamW at 3e-4: Karpathy's "safe" rate for Adam in the 2019 recipe.
DEFAULT_LR = 3e-4


def assemble(
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    origins: Mapping[str, Place] | None = None,
    names: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Setup:
    """Make every part of a recipe, the model first. Raises TargetError naming the part that cannot be used.

    `names` are the expressions under which parts were found, for people.
    """
    seed_everything(seed)
    origins = dict(origins or {})
    made: dict[str, Any] = {"device": device or torch.device("cpu")}
    said = list(notes)
    for part in PARTS:
        value = getattr(recipe, part) if made.get(part) is None else made[part]
        if (
            value is not None
            and part not in ("scheduler_interval", "epochs", "target_error")
            and is_factory(part, value)
        ):
            with noting_loads():
                value = call_factory(part, value, made, place=origins.get(part))
        made[part] = value
        if part == "model":
            _check_model(value, origins)
            if device is not None:
                _move(value, device, origins)
        elif part == "train_loader":
            _split_loaders(made, said, validates=recipe.val_loader is None)
    if isinstance(made["optimizer"], (list, tuple, Mapping)):
        made["optimizer"], scheduler, interval = lightning.unpack_optimizers(made["optimizer"], "the set-up")
        made["scheduler"] = made["scheduler"] or scheduler
        made["scheduler_interval"] = made["scheduler_interval"] or interval
    if lightning.is_lightning_module(made["model"]):
        _from_lightning(made, origins)
    if made["optimizer"] is None and made["train_step"] is not None:
        made["optimizer"] = _optimizer_of(made["train_step"])
        if made["optimizer"] is not None:
            said.append("the optimizer is the one that train_step uses")
    _check_parts(made, origins)
    materialize(made, said)
    default = made["optimizer"] is None
    if default:
        said.append(f"no optimizer given: AdamW(lr={DEFAULT_LR:g}) is used")
    setup = Setup(
        **{part: made[part] for part in PARTS if part != "optimizer"},
        optimizer=_default_optimizer(made["model"], origins) if default else made["optimizer"],
        default_optimizer=default,
        bound=(),
        notes=tuple(said),
        origins=origins,
    )
    return dataclasses.replace(setup, bound=tuple(_bound(setup, dict(names or {}))))


def _optimizer_of(step: Any) -> torch.optim.Optimizer | None:
    """The only optimizer that a step function reaches: in its closure, among the names it uses, in its object."""
    function = getattr(step, "__func__", step)
    held = [*vars(getattr(step, "__self__", object)).values()] if hasattr(step, "__self__") else []
    code = getattr(function, "__code__", None)
    if code is not None:
        held += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        for cell in function.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # an empty cell
                continue
    found = {id(item): item for item in held if isinstance(item, torch.optim.Optimizer)}
    return next(iter(found.values())) if len(found) == 1 else None


def _check_model(model: Any, origins: Mapping[str, Place]) -> None:
    if not isinstance(model, nn.Module):
        raise TargetError(
            f"model is {model!r:.80}, not an nn.Module",
            places=_at(origins, "model"),
            help="bind `model` to an nn.Module, or to a function that returns one",
        )
    if type(model).__name__ in ("FullyShardedDataParallel", "FSDP"):
        raise TargetError("the model is sharded (FSDP)", help="give the model as it is before it is sharded")
    if any(p.is_meta for p in model.parameters()):
        raise TargetError(
            "the model's parameters are on the meta device: they have no values", places=_at(origins, "model")
        )


def _move(model: nn.Module, device: torch.device, origins: Mapping[str, Place]) -> None:
    try:
        model.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TargetError(f"the model cannot be moved to {device}: {error}", places=_at(origins, "model")) from error


def _split_loaders(made: dict[str, Any], said: list[str], *, validates: bool) -> None:
    """A builder that returns several loaders gives training and validation, in this order."""
    value = made["train_loader"]
    if lightning.is_lightning_data(value):
        made["train_loader"], made["val_loader"] = _users(lambda: lightning.data_loaders(value), "the data module")
        return
    several = isinstance(value, (list, tuple)) and 1 < len(value) <= 3
    if several and all(isinstance(item, torch.utils.data.DataLoader) for item in value):
        made["train_loader"] = value[0]
        if validates:
            made["val_loader"] = value[1]
            said.append(f"{len(value)} loaders were returned: the first trains, the second validates")


def _from_lightning(made: dict[str, Any], origins: dict[str, Place]) -> None:
    """What a LightningModule brings of its own, for parts that were not given."""
    model = made["model"]
    given = made["train_loader"]
    trainer = lightning.StandInTrainer(epochs=made["epochs"])
    if made["train_loader"] is None:
        made["train_loader"] = _users(lambda: lightning.loader(model, "train_dataloader", trainer), "train_dataloader")
    if made["val_loader"] is None and given is None:
        made["val_loader"] = _users(lambda: lightning.loader(model, "val_dataloader", trainer), "val_dataloader")
    trainer = lightning.StandInTrainer(epochs=made["epochs"], batches=length_of(made["train_loader"]))
    if made["training_step"] is None and made["loss_fn"] is None:
        made["training_step"] = lightning.training_step(model, trainer)
    if made["optimizer"] is None:
        found = _users(lambda: lightning.optimizers(model, trainer), "configure_optimizers")
        made["optimizer"], scheduler, interval = found
        made["scheduler"] = made["scheduler"] or scheduler
        made["scheduler_interval"] = made["scheduler_interval"] or interval


def _users(call: Any, what: str) -> Any:
    try:
        return call()
    except (OutOfTime, KeyboardInterrupt, TargetError):
        raise
    except BaseException as error:  # SystemExit, and what a library derives from BaseException
        raise TargetError(
            f"{what} failed: {type(error).__name__}: {words_of(error)}", places=user_frames(error)
        ) from error


def _check_parts(made: dict[str, Any], origins: Mapping[str, Place]) -> None:
    loader = made["train_loader"]
    if loader is None:
        raise TargetError(
            "there is no train_loader", help="bind a DataLoader, or any iterable of batches, to `train_loader`"
        )
    for part in ("train_loader", "val_loader"):
        value = made[part]
        iterable = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
        if value is not None and (not iterable or isinstance(value, (str, bytes, torch.Tensor, nn.Module))):
            raise TargetError(
                f"{part} is {value!r:.80}, not an iterable of batches",
                places=_at(origins, part),
                help="give a DataLoader, or a list of (inputs, target) batches",
            )
    if made["loss_fn"] is not None and not callable(made["loss_fn"]):
        raise TargetError(
            f"loss_fn is {made['loss_fn']!r:.80}, which cannot be called",
            places=_at(origins, "loss_fn"),
            help="give a function of (output, target) that returns the loss",
        )
    aim = made["target_error"]
    if aim is not None and (not isinstance(aim, (int, float)) or isinstance(aim, bool) or not 0 <= aim < math.inf):
        raise TargetError(
            f"target_error is {aim!r:.80}, not a number of 0 or more",
            places=_at(origins, "target_error"),
            help="give the share of wrong answers aimed at (0.02), or a loss where there are no labels",
        )
    optimizer = made["optimizer"]
    inner = getattr(optimizer, "optimizer", None)  # accelerate wraps the optimizer it prepares
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        if not isinstance(inner, torch.optim.Optimizer):
            raise TargetError(
                f"optimizer is {optimizer!r:.80}, not a torch.optim.Optimizer", places=_at(origins, "optimizer")
            )
        made["optimizer"] = inner


def _default_optimizer(model: nn.Module, origins: Mapping[str, Place]) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if not parameters:
        raise TargetError(
            "the model has no parameters: there is nothing to train",
            places=_at(origins, "model"),
            help="layers kept in a plain list or dict are not found: use nn.ModuleList or nn.ModuleDict",
        )
    # With everything frozen all are given, so that the checks can say that the loss has no gradient.
    return torch.optim.AdamW([p for p in parameters if p.requires_grad] or parameters, lr=DEFAULT_LR)


def materialize(made: Mapping[str, Any], said: list[str]) -> None:
    """Give lazy layers their shapes by one forward pass in eval mode, and say so."""
    model = made["model"]
    if not any(torch.nn.parameter.is_lazy(t) for t in (*model.parameters(), *model.buffers())):
        return
    modes = [(module, module.training) for module in model.modules()]
    parts = {part: made[part] for part in PARTS if part != "optimizer"}
    setup = Setup(
        **parts,
        optimizer=torch.optim.SGD([torch.zeros(1)]),
        default_optimizer=True,
        bound=(),
        notes=(),
    )
    batch = _users(lambda: next(iter(made["train_loader"])), "the training loader")
    set_mode(model, False)
    try:
        with torch.no_grad():
            Objective(setup, model)(batch)
    finally:
        for module, training in modes:
            module.training = training
    said.append("lazy layers were given their shapes by one forward pass")


def _bound(setup: Setup, names: dict[str, str]) -> list[str]:
    def line(word: str, part: str, what: str) -> str:
        return f"{word} = {names[part]} ({what})" if part in names else f"{word} = {what}"

    model = setup.model
    lines = [line("model", "model", f"{type(model).__name__}, {_count(model)}")]
    if setup.training_step is not None:
        lines.append(line("loss", "training_step", getattr(setup.training_step, "label", "training_step")))
    elif setup.loss_fn is not None:
        name = getattr(setup.loss_fn, "__name__", type(setup.loss_fn).__name__)
        lines.append(line("loss", "loss_fn", name))
    elif setup.train_step is not None:
        lines.append("loss = that of train_step")
    else:
        lines.append("loss = returned by the model")
    lines.append(line("data", "train_loader", _describe_loader(setup.train_loader)))
    if setup.val_loader is not None:
        lines.append(line("validation", "val_loader", _describe_loader(setup.val_loader)))
    if not setup.default_optimizer:
        lines.append(line("optimizer", "optimizer", type(setup.optimizer).__name__))
    if setup.scheduler is not None:
        lines.append(line("scheduler", "scheduler", type(setup.scheduler).__name__))
    if setup.train_step is not None:
        lines.append(line("train_step", "train_step", getattr(setup.train_step, "label", "does the whole step")))
    return lines


def _count(model: nn.Module) -> str:
    total = sum(p.numel() for p in model.parameters() if not torch.nn.parameter.is_lazy(p))
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if total >= size:
            return f"{total / size:.3g}{unit}"
    return f"{total} parameters"


def _describe_loader(loader: Any) -> str:
    data = getattr(loader, "dataset", None)
    kind = type(loader if data is None else data).__name__
    batch_size = getattr(loader, "batch_size", None)
    return f"{kind}, batch {batch_size}" if isinstance(batch_size, int) else kind


def _at(origins: Mapping[str, Place], part: str) -> tuple[Place, ...]:
    return (origins[part],) if part in origins else ()
