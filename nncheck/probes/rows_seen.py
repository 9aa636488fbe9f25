"""Which rows a script without a loader trains on and looks at: seen while it goes on for a few epochs."""

from __future__ import annotations

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.rows_seen import RowsSeen as RowsSeen
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def rows_seen(sandbox: Sandbox) -> RowsSeen:
    """Ask what the script's own loop did."""
    return witnessed(sandbox.setup, RowsSeen)
