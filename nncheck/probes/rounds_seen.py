"""Which backward passes each step of a script's optimizer is made from: seen while it goes on for a few epochs."""

from __future__ import annotations

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.accumulation import Round as Round, RoundsSeen as RoundsSeen
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def rounds_seen(sandbox: Sandbox) -> RoundsSeen:
    """Ask what the script's own loop did."""
    return witnessed(sandbox.setup, RoundsSeen)
