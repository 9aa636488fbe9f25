"""Which optimizers take a script's steps: seen while it goes on for a few epochs."""

from __future__ import annotations

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.optimizers import OptimizersSeen as OptimizersSeen
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def optimizers_seen(sandbox: Sandbox) -> OptimizersSeen:
    """Ask what the script's own loop did."""
    return witnessed(sandbox.setup, OptimizersSeen)
