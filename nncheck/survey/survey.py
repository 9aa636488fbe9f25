"""What one pass over a loader found: the accumulators that every pass feeds, and their results by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nncheck.lab.sandbox import Sandbox
from nncheck.survey.features import Features, InputStatistics
from nncheck.survey.labels import Labels, TargetStatistics
from nncheck.survey.samples import SampleMarks, Samples
from nncheck.survey.sketch import LinearFit, Sketch
from nncheck.survey.walk import Coverage, walk


@dataclass(frozen=True, kw_only=True)
class Survey:
    """One pass over a loader; a field for each accumulator's result. others: inputs that might be somebody's labels."""

    coverage: Coverage
    inputs: tuple[InputStatistics, ...]
    targets: tuple[TargetStatistics, ...]
    others: tuple[TargetStatistics, ...]
    samples: SampleMarks
    linear: LinearFit | None = None

    def labels(self, name: str) -> TargetStatistics | None:
        """What is known of a batch's tensor as labels."""
        return next((one for one in (*self.targets, *self.others) if one.name == name), None)


def survey(sandbox: Sandbox, loader: Iterable[Any], *, seconds: float, what: str) -> Survey:
    """One pass over `loader`. An accumulator is made in one line here, and its result is a field of `Survey`."""
    features = Features()
    labels, others = Labels(), Labels(of_inputs=True)
    samples = Samples()
    sketch = Sketch()
    coverage = walk(sandbox, loader, (features, labels, others, samples, sketch), seconds=seconds, what=what)
    return Survey(
        coverage=coverage,
        inputs=features.result(),
        targets=labels.result(),
        others=others.result(),
        samples=samples.result(),
        linear=sketch.result(),
    )
