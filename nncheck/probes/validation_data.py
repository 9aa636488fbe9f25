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
class ValidationSurvey:
    """The survey of the validation loader, if there is one."""

    survey: Survey | None


@dataclass(frozen=True, kw_only=True)
class ValidationData:
    """The survey of the validation loader."""

    survey: Survey


@probe
def validation_survey(sandbox: Sandbox) -> ValidationSurvey:
    """Survey the validation loader, for checks that have something to say without one too."""
    loader = sandbox.setup.val_loader
    if loader is None:
        return ValidationSurvey(survey=None)
    return ValidationSurvey(survey=survey(sandbox, loader, seconds=SECONDS, what="validation"))


@probe
def validation_data(found: ValidationSurvey) -> ValidationData:
    """The same. Raises CannotMeasure if there is none."""
    if found.survey is None:
        raise CannotMeasure("no validation loader is given")
    return ValidationData(survey=found.survey)
