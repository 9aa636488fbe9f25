"""In which mode a script trains its model, and in which it validates it: seen while it goes on for a few epochs."""

from __future__ import annotations

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.modes import ModesSeen as ModesSeen
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def modes_seen(sandbox: Sandbox) -> ModesSeen:
    """Ask what the script's own loop did."""
    return witnessed(sandbox.setup, ModesSeen)
