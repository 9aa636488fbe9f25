"""The Python API: the same checks from a notebook or a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from nncheck.config import config_for
from nncheck.gate.rules import Rules, notices
from nncheck.observe.source import calling_place
from nncheck.recipe import Recipe
from nncheck.registry import select as select_ids
from nncheck.runner import Interrupted, make_report, run_target
from nncheck.target.assemble import assemble
from nncheck.verdict import Report


def check(
    model: Any,
    train_loader: Any = None,
    *,
    val_loader: Any = None,
    loss_fn: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    scheduler_interval: str | None = None,
    training_step: Callable[..., Any] | None = None,
    train_step: Callable[..., Any] | None = None,
    epochs: int | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    seed: int = 0,
    device: str | torch.device | None = None,
    budget: float | None = None,
    fail_on: Literal["fail", "warn", "never"] = "fail",
) -> Report:
    """Check a training set-up and return the report; nothing is printed, and the objects are as before.

    `model` may be a `Recipe`, which then holds all parts. Parts are as in `Recipe`; `select` and `ignore` take ids or stages;
    `device` defaults to the model's own; `budget` is in seconds. Levels and acceptances come from the working directory's
    nncheck.toml; an acceptance that names a target does not hold here.
    Raises TargetError if the set-up cannot be used, UsageError for an unknown id or an nncheck.toml that cannot be used.
    """
    recipe = (
        model
        if isinstance(model, Recipe)
        else Recipe(
            model=model,
            train_loader=train_loader,
            val_loader=val_loader,
            loss_fn=loss_fn,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            training_step=training_step,
            train_step=train_step,
            epochs=epochs,
        )
    )
    selected = select_ids(tuple(select), tuple(ignore))
    config = config_for(".")
    asked_at = calling_place("nncheck.check")
    begun = time.monotonic()
    setup = assemble(recipe, seed=seed, device=None if device is None else torch.device(device))
    first = next(setup.model.parameters(), None)
    where = first.device if first is not None else torch.device("cpu")
    deadline = float("inf") if budget is None else begun + budget
    interrupted = False
    try:
        result = run_target(
            type(setup.model).__name__,
            setup,
            selected=selected,
            seed=seed,
            device=where,
            deadline=deadline,
            notes=config.checklist,
            asked_at=asked_at,
        )
    except Interrupted as stop:
        result, interrupted = stop.result, True
    rules = Rules(config=config)
    report = make_report(
        [rules.on_target(result)],
        seed=seed,
        device=where,
        seconds=time.monotonic() - begun,
        fail_on=fail_on,
        interrupted=interrupted,
        command="nncheck.check(...)",
    )
    return replace(report, notices=notices([(rules, [result])]))
