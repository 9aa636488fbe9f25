"""From a recipe to live objects: makes what are factories, fills in what is missing, says what it assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nncheck.errors import TargetError
from nncheck.recipe import PARTS, Recipe, Setup, call_factory, is_factory
from nncheck.snapshot import seed_everything
from nncheck.verdict import Place

# AdamW at 3e-4: Karpathy's "safe" rate for Adam in the 2019 recipe.
DEFAULT_LR = 3e-4


def assemble(
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    origins: Mapping[str, Place] | None = None,
    notes: tuple[str, ...] = (),
) -> Setup:
    """Make every part of a recipe, the model first. Raises TargetError naming the part that cannot be used."""
    seed_everything(seed)
    origins = dict(origins or {})
    made: dict[str, Any] = {"device": device or torch.device("cpu")}
    said = list(notes)
    for part in PARTS:
        value = getattr(recipe, part)
        if value is not None and part not in ("scheduler_interval", "epochs") and is_factory(part, value):
            value = call_factory(part, value, made, place=origins.get(part))
        made[part] = value
    model = made["model"]
    if not isinstance(model, nn.Module):
        raise TargetError(f"model is {model!r:.80}, not an nn.Module", places=_at(origins, "model"))
    if device is not None:
        model.to(device)
    if made["train_loader"] is None:
        raise TargetError("there is no train_loader", help="name a DataLoader `train_loader`")
    optimizer = made["optimizer"]
    default = optimizer is None
    if optimizer is None:
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise TargetError("the model has no trainable parameter", places=_at(origins, "model"))
        optimizer = torch.optim.AdamW(trainable, lr=DEFAULT_LR)
        said.append(f"no optimizer given: AdamW(lr={DEFAULT_LR:g}) is used")
    return Setup(
        model=model,
        train_loader=made["train_loader"],
        val_loader=made["val_loader"],
        loss_fn=made["loss_fn"],
        optimizer=optimizer,
        scheduler=made["scheduler"],
        scheduler_interval=made["scheduler_interval"],
        training_step=made["training_step"],
        train_step=made["train_step"],
        epochs=made["epochs"],
        default_optimizer=default,
        bound=(),
        notes=tuple(said),
        origins=origins,
    )


def _at(origins: Mapping[str, Place], part: str) -> tuple[Place, ...]:
    return (origins[part],) if part in origins else ()
