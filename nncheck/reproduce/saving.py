"""Saving: whether training goes on from what was saved."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch

from nncheck.reproduce.setup import SetUp, output, patched, seed, take, train


def checkpoint(setup: SetUp) -> bool:
    """State dicts into a set-up made anew with other random numbers: the same outputs, update and rate must come."""
    batches = take(setup.train_loader, 3)
    seed(0)
    train(setup, batches[:1])
    saved = io.BytesIO()
    parts: list[Any] = [setup.model, setup.optimizer, setup.scheduler]
    torch.save([copy.deepcopy(part.state_dict()) for part in parts if part is not None], saved)
    manual = torch.manual_seed
    with patched(
        torch, "manual_seed", lambda number: manual(number + 1)
    ):  # the file may seed: another process need not
        other = setup.again()
    saved.seek(0)
    states = torch.load(saved, weights_only=False)
    others: list[Any] = [other.model, other.optimizer, other.scheduler]
    try:
        for part, state in zip([p for p in others if p is not None], states, strict=True):
            part.load_state_dict(state)
    except Exception as error:  # noqa: BLE001
        print(f"loading: {type(error).__name__}: {error}")
        return True
    apart = []
    for what in ("outputs", "outputs after one more update"):
        for one in (setup, other):
            one.model.eval()
        with torch.no_grad():
            kept, loaded = output(setup, batches[1]), output(other, batches[1])
        apart.append(float((kept - loaded).abs().max() / kept.abs().max()))
        print(f"{what}: apart by {apart[-1]:.2g} of the largest (should be 0)")
        for one in (setup, other):
            seed(1)
            train(one, batches[2:3])
    rates = [one.optimizer.param_groups[0]["lr"] for one in (setup, other)]
    print(f"learning rates: {rates[0]:.4g} and {rates[1]:.4g}")
    return apart[0] > 1e-5 or apart[1] > 1e-3 or rates[0] != rates[1]
