"""When a script steps its schedules: seen while it goes on for a few epochs."""

from __future__ import annotations

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.schedules import SchedulesSeen as SchedulesSeen, Stepped as Stepped
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def schedules_seen(sandbox: Sandbox) -> SchedulesSeen:
    """Ask what the script's own loop did."""
    return witnessed(sandbox.setup, SchedulesSeen)
