"""One pass over the validation data, for every check that compares them with the training data."""

from __future__ import annotations

from dataclasses import dataclass

from nncheck.errors import CannotMeasure
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.survey.survey import Survey, survey

# Less than for the training data, of which validation sets are a fraction.
SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class ValidationData:
    """The survey of the validation loader."""

    survey: Survey


@probe
def validation_data(sandbox: Sandbox) -> ValidationData:
    """Survey the validation loader. Raises CannotMeasure if there is none."""
    loader = sandbox.setup.val_loader
    if loader is None:
        raise CannotMeasure("no validation loader is given")
    return ValidationData(survey=survey(sandbox, loader, seconds=SECONDS, what="validation"))
