"""Evidence about data, made by hand: sound unless changed."""

import dataclasses
import math
from typing import Any

from nncheck.probes.loss_targets import LossTarget, LossTargets
from nncheck.probes.network_input import Entry, NetworkInput
from nncheck.probes.sampling import Sampling
from nncheck.probes.stored_pixels import StoredPixels
from nncheck.probes.training_data import TrainingData
from nncheck.survey.features import InputStatistics
from nncheck.survey.labels import Rows, TargetStatistics
from nncheck.survey.moments import Spread
from nncheck.survey.pictures import Picture
from nncheck.survey.survey import Survey
from nncheck.survey.walk import Coverage
from nncheck.verdict import Place

NO_SPREAD = Spread(mean=(), std=(), low=(), high=())


def spread(*columns: tuple[float, float]) -> Spread:
    """(mean, deviation) per position."""
    return Spread(
        mean=tuple(m for m, _ in columns),
        std=tuple(s for _, s in columns),
        low=tuple(m - 3 * s for m, s in columns),
        high=tuple(m + 3 * s for m, s in columns),
    )


def picture(**changed: Any) -> Picture:
    sound = Picture(
        last=False,
        channels=3,
        height=32,
        width=32,
        images=128,
        across=0.4,
        across_error=0.01,
        down=0.4,
        down_error=0.01,
        block=1,
        straight=0.0,
    )
    return dataclasses.replace(sound, **changed)


def entry(**changed: Any) -> Entry:
    """What a first linear layer is given: 128 rows of 8 standardised columns."""
    sound = Entry(
        roots=("[0]",),
        layer="0",
        kind="linear",
        place=Place(name="0", file="model.py", line=3),
        shape=(32, 8),
        samples=128,
        low=-4.0,
        high=4.0,
        mean=0.0,
        std=1.0,
        whole=0.0,
        bytes_twice=False,
        distinct=None,
        same=False,
        features=spread(*[(0.0, 1.0)] * 8),
        binary=(False,) * 8,
        empty=(0.0,) * 8,
        blank=0.0,
        normalised=False,
        shift=math.nan,
        ratio=math.nan,
        changed=False,
        width=16,
        frequent=None,
        frequent_share=0.0,
        second_share=0.0,
        ids=0,
        picture=None,
        shown=None,
    )
    return dataclasses.replace(sound, **changed)


def columns(*given: tuple[float, float], **changed: Any) -> Entry:
    """A linear layer given columns of these means and deviations."""
    number = len(given)
    mean = sum(m for m, _ in given) / number
    std = math.sqrt(sum(s * s + (m - mean) ** 2 for m, s in given) / number)
    filled = {
        "shape": (32, number),
        "features": spread(*given),
        "binary": (False,) * number,
        "empty": (0.0,) * number,
        "mean": mean,
        "std": std,
        "low": mean - 4 * std,
        "high": mean + 4 * std,
    }
    return entry(**{**filled, **changed})


def given(*entries: Entry, trained: str = "") -> NetworkInput:
    return NetworkInput(entries=entries, samples=128, trained=trained, batch="[0] is float32[32, 8]")


def inputs(**changed: Any) -> InputStatistics:
    sound = InputStatistics(
        name="[0]",
        kind="float",
        dtype="float32",
        shape=(3, 32, 32),
        samples=1000,
        looked_at=1000,
        values=3_072_000,
        low=-4.0,
        high=4.0,
        mean=0.0,
        std=1.0,
        whole=0.0,
        distinct=None,
        axes=(),
        constant=0,
        constant_at=(),
        constant_values=(),
        constant_labels=(),
    )
    return dataclasses.replace(sound, **changed)


def labels(counts: dict[float, int] | None = None, **changed: Any) -> TargetStatistics:
    """Class labels that come this often."""
    counts = {0.0: 100, 1.0: 100, 2.0: 100} if counts is None else counts
    total = sum(counts.values())
    mean = sum(v * n for v, n in counts.items()) / total if total else 0.0
    sound = TargetStatistics(
        name="[1]",
        kind="integer",
        dtype="int64",
        shape=(),
        samples=total,
        values=total,
        low=min(counts, default=0.0),
        high=max(counts, default=0.0),
        mean=mean,
        std=1.0,
        whole=1.0,
        counts=tuple(sorted(counts.items())),
        columns=NO_SPREAD,
        rows=None,
        one_value_batches=(),
        quantiles=(),
    )
    return dataclasses.replace(sound, **changed)


def rows(**changed: Any) -> Rows:
    return dataclasses.replace(Rows(number=300, to_one=1.0, all_zero=0.0, low_sum=1.0, high_sum=1.0), **changed)


def data(
    *targets: TargetStatistics, seen: tuple[InputStatistics, ...] = (), complete: bool = True, samples: int = 300
) -> TrainingData:
    coverage = Coverage(
        batches=10,
        samples=samples,
        complete=complete,
        stopped="" if complete else "stopped after 5 s",
        failure="",
        first="",
    )
    known = {"coverage": coverage, "inputs": seen, "targets": targets}
    empty = {field.name: () for field in dataclasses.fields(Survey) if field.name not in known}
    return TrainingData(survey=Survey(**{**empty, **known}))  # type: ignore[arg-type]


def call(**changed: Any) -> LossTarget:
    """Cross-entropy over three classes."""
    sound = LossTarget(
        kind="cross-entropy",
        place=Place(name="loss", file="model.py", line=9),
        roots=("[1]",),
        own="[1]",
        connected=True,
        several=False,
        classes=3,
        ignore_index=-100,
        reduction="mean",
        weights=(),
        pos_weight=(),
        smoothing=0.0,
        soft=False,
        dtype="int64",
        integer=True,
        shape=(32,),
        low=0.0,
        high=2.0,
        mean=1.0,
        std=0.8,
        whole=1.0,
        distinct=(0.0, 1.0, 2.0),
        root_whole=1.0,
        to_one=math.nan,
        all_zero=math.nan,
        low_sum=math.nan,
        high_sum=math.nan,
        inner=math.nan,
        output_mean=0.0,
        output_std=0.5,
    )
    return dataclasses.replace(sound, **changed)


def losses(*calls: LossTarget, **changed: Any) -> LossTargets:
    return dataclasses.replace(LossTargets(calls=calls, ctc=(), size=32, vocabulary=0, last_token=None), **changed)


def sampling(**changed: Any) -> Sampling:
    sound = Sampling(sampler="RandomSampler", weights=None, length=300, labels=None, place=None)
    return dataclasses.replace(sound, **changed)


def pixels(**changed: Any) -> StoredPixels:
    sound = StoredPixels(
        name="images", items=0, stored_levels=200.0, given_levels=200.0, in_place=0, turned=0.0, turned_items=0
    )
    return dataclasses.replace(sound, **changed)
