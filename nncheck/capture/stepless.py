"""A script that came to its end, went back from losses, and never stepped the optimizer that holds what they reach."""

from __future__ import annotations

import gc

import torch
from torch.optim import Optimizer

from nncheck.capture.record import Record

# One backward pass alone may be there for its gradient.
FEWEST = 2


def ended_without_a_step(record: Record) -> bool:
    """Whether a script that is over has an optimizer that never stepped; the record then stands at the last backward pass."""
    if record.optimizer is not None or record.processes or len(record.losses) < FEWEST:
        return False
    if any(t.requires_grad and not torch.equal(t.detach(), value) for t, value, _ in record.tensors):
        return False  # updated by hand, in the last iteration
    trained = {id(p) for root in record.roots for p in root.parameters() if p.requires_grad}
    # Those of functions that have returned are held by what is known of their frames.
    alive = [one for one in gc.get_objects() if issubclass(type(one), Optimizer)]
    held = [sum(id(p) in trained for group in one.param_groups for p in group["params"]) for one in alive]
    if not any(held):
        return False
    record.optimizer, record.step = alive[held.index(max(held))], record.backward
    record.requests, record.called = record.at_backward
    record.stepless = True
    return True
