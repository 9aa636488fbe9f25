"""One pass over the training data, for every check that looks at them."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.survey.survey import Survey, survey

# A run stays interactive: a set that takes longer is judged by the part seen until then, and the report says so.
SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The survey of the training loader."""

    survey: Survey


@probe
def training_data(sandbox: Sandbox) -> TrainingData:
    """Survey the training loader."""
    return TrainingData(survey=survey(sandbox, sandbox.setup.train_loader, seconds=SECONDS, what="training"))
