"""generalization on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.generalization import generalization
from nncheck.lab.noise_scale import GradientNoise
from nncheck.probes.rehearsal import Levels
from nncheck.verdict import Status, Table, Verdict
from tests.rehearsals import level, levels, moves, overfit, rehearsal


def _judge(validation: Levels | None = None, **changes: Any) -> Verdict:
    known = {"fresh": levels(2.3, 1.0), "validation": levels(2.3, 1.1) if validation is None else validation, **changes}
    return generalization(rehearsal(**known), overfit())


def test_a_sound_run_passes_with_its_table_and_the_noise_of_the_gradient() -> None:
    verdict = _judge(noise=GradientNoise(signal=1.0, noise=135.0, small=16, large=256))
    assert verdict.status is Status.PASS
    assert "135 (yours: 64)" in verdict.measured
    assert verdict.numbers["noise_scale"] == 135.0
    table = verdict.exhibits[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 4


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(2.3, 4.0, Status.FAIL), (2.3, 2.301, Status.WARN), (2.2, 2.25, Status.WARN), (2.3, 2.2, Status.PASS)],
)
def test_validation_that_gets_no_better_where_new_training_samples_do(
    before: float, after: float, status: Status
) -> None:
    assert _judge(levels(before, after)).status is status


def test_nothing_is_said_without_new_training_samples_or_where_they_get_no_better() -> None:
    rising = levels(2.3, 4.0)
    assert _judge(rising, fresh=None).status is Status.PASS
    assert _judge(rising, fresh=levels(2.3, 4.0)).status is Status.PASS
    assert _judge(rising, fresh=levels(2.3, 2.0)).status is Status.PASS  # less than a quarter
    assert _judge(rising, fresh=levels(2.3, 1.0, lag=20.0)).status is Status.PASS  # not for certain


def test_few_validation_samples_and_losses_of_whole_batches_decide_nothing() -> None:
    few = Levels(
        samples=16, before=None, after=None, eval_before=level(2.3, samples=16), eval_after=level(4, samples=16)
    )
    assert _judge(few).status is Status.PASS
    rising = levels(2.3, 4.0)
    assert rising.eval_after is not None
    whole = dataclasses.replace(rising, eval_after=dataclasses.replace(rising.eval_after, apart=False))
    assert _judge(whole).status is Status.PASS
    assert _judge(levels(2.3, math.nan)).status is Status.PASS


def test_what_cannot_be_compared_is_skipped_with_its_reason() -> None:
    assert generalization(rehearsal(), overfit()).why_skipped == "there is no validation loader"
    broken = generalization(rehearsal(no_validation="ValueError: no such file"), overfit())
    assert "no such file" in (broken.why_skipped or "")
    assert _judge(diverged=True).status is Status.SKIP
    assert _judge(dataclasses.replace(levels(2.3, 1.0), eval_after=None)).status is Status.SKIP


def test_the_advice_follows_from_the_gap() -> None:
    seen = levels(2.3, 0.2)
    assert "dropout" in _judge(levels(2.3, 1.0), seen=seen).measured
    assert "more data" in _judge(levels(2.3, 1.0), seen=seen, moves=(moves(decay=0.1),)).measured
    assert "still high" in _judge(levels(2.3, 2.0), seen=levels(2.3, 2.0)).measured
    assert "no gap" in _judge(levels(2.3, 0.3), seen=levels(2.3, 0.3)).measured
