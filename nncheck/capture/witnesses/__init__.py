"""What is seen of a script that goes on after its first step: one file a measurement, each a `Witness`."""

from __future__ import annotations

from nncheck.capture.witnesses.accumulation import Rounds
from nncheck.capture.witnesses.device_waits import WaitWitness
from nncheck.capture.witnesses.kept_graphs import GraphWitness
from nncheck.capture.witnesses.metrics_seen import MetricWitness
from nncheck.capture.witnesses.modes import Modes
from nncheck.capture.witnesses.optimizers import Optimizers
from nncheck.capture.witnesses.rows_seen import Rows
from nncheck.capture.witnesses.schedules import Schedules
from nncheck.capture.witnesses.validation_course import ValidationWitness
from nncheck.capture.witnesses.witness import Course, Witness

KINDS: tuple[type[Witness], ...] = (
    Modes,
    Optimizers,
    Schedules,
    GraphWitness,
    WaitWitness,
    ValidationWitness,
    MetricWitness,
    Rounds,
    Rows,
)
"""Every witness, made anew for each script."""

EACH: tuple[type[Witness], ...] = (Modes, Optimizers, Schedules)
"""Those that may follow one of several optimizers by itself."""

__all__ = ["EACH", "KINDS", "Course", "Witness"]
