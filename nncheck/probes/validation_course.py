"""Which of its loaders a script trains on, and which it validates on."""

from nncheck.capture.onward import witnessed
from nncheck.capture.witnesses.validation_course import (
    LoaderCourse as LoaderCourse,
    ValidationCourse as ValidationCourse,
)
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe


@probe
def validation_course(sandbox: Sandbox) -> ValidationCourse:
    return witnessed(sandbox.setup, ValidationCourse)
