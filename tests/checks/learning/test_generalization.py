"""generalization on evidence built by hand: both sides of each limit."""

import dataclasses
import math
from typing import Any

import pytest

from nncheck.checks.learning.generalization import generalization
from nncheck.lab.noise_scale import GradientNoise
from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.regularisers import Regularisers
from nncheck.probes.rehearsal import Levels
from nncheck.verdict import Status, Table, Verdict
from tests.rehearsals import level, levels, overfit, rehearsal


def _judge(validation: Levels | None = None, **changes: Any) -> Verdict:
    known = {"fresh": levels(2.3, 1.0), "validation": levels(2.3, 1.1) if validation is None else validation, **changes}
    return generalization(rehearsal(**known), overfit(), None, None)


def test_a_sound_run_passes_with_its_table_and_the_noise_of_the_gradient() -> None:
    verdict = _judge(noise=GradientNoise(signal=1.0, noise=135.0))
    assert verdict.status is Status.PASS
    assert "135 (yours: 64)" in verdict.measured
    assert verdict.numbers["noise_scale"] == 135.0
    steps, table = verdict.exhibits
    assert isinstance(steps, Table)
    assert isinstance(table, Table)
    assert (len(steps.rows), len(table.rows)) == (4, 4)


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
    assert generalization(rehearsal(), overfit(), None, None).why_skipped == "there is no validation loader"
    broken = generalization(rehearsal(no_validation="ValueError: no such file"), overfit(), None, None)
    assert "no such file" in (broken.why_skipped or "")
    assert _judge(diverged=True).status is Status.SKIP
    assert _judge(dataclasses.replace(levels(2.3, 1.0), eval_after=None)).status is Status.SKIP


def _wrong(share: float, mean: float, samples: int = 1000) -> Levels:
    after = level(mean, samples=samples, wrong=share)
    before = level(2.3, samples=samples, wrong=0.9)
    return Levels(samples=samples, before=before, after=after, eval_before=before, eval_after=after)


RULES = Regularisers(dropout=0.0, calls=False, decay=0.0, smoothing=0.0, target_error=None)


def _advised(
    train: Levels, validation: Levels, *, items: ItemRepeats | None = None, fresh: Levels | None = None, **rules: Any
) -> Verdict:
    run = rehearsal(seen=train, validation=validation, fresh=fresh)
    return generalization(run, overfit(), dataclasses.replace(RULES, **rules), items)


def test_the_advice_follows_from_the_gap() -> None:
    small, large, far = _wrong(0.01, 0.1), _wrong(0.2, 0.8), _wrong(0.8, 2.0)
    variance = _advised(small, large).measured
    assert "19.0%: if it stays" in variance
    assert "more data, augmentation, weight decay, or dropout close it. No regulariser is in use" in variance
    assert "no gap" in _advised(small, _wrong(0.02, 0.1)).measured  # 1 %: three standard errors are 1.6 %
    assert "Both are still high" in _advised(far, _wrong(0.82, 2.0)).measured
    assert "holds it back" in _advised(far, far, dropout=0.9).measured
    assert "the loss" not in _advised(small, _wrong(0.2, math.nan)).measured.partition("validation samples")[2]


def test_regularisers_in_use_are_told_and_not_advised_again() -> None:
    used = _advised(
        _wrong(0.01, 0.1),
        _wrong(0.2, 0.8),
        items=ItemRepeats(items=24, vary=24),
        dropout=0.3,
        decay=0.01,
        smoothing=0.1,
    ).measured
    assert "In use: dropout of 0.3, weight decay of 0.01, label smoothing of 0.1, augmentation" in used
    assert "more data, or more of what is in use close it" in used
    assert "augmentation, or dropout close it" in _advised(_wrong(0.01, 0.1), _wrong(0.2, 0.8), decay=0.01).measured
    assert "weight decay close" not in _advised(_wrong(0.01, 0.1), _wrong(0.2, 0.8), calls=True, decay=1.0).measured


def test_bias_is_what_is_above_the_error_aimed_at() -> None:
    train, validation = _wrong(0.1, 0.3), _wrong(0.16, 0.5)
    aimed = _advised(train, validation, target_error=0.08, fresh=_wrong(0.15, 0.45))
    assert aimed.numbers["bias"] == pytest.approx(0.02)
    assert aimed.numbers["variance"] == pytest.approx(0.06)
    assert "gap to validation is 6.0%" in aimed.measured
    table = aimed.exhibits[0]
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == ["", "avoidable bias 2.0%", "variance 5.0%", "other kind of data 1.0%"]
    biased = _advised(train, validation, target_error=0.01)
    assert "train longer" in biased.measured
    assert "reached" in _advised(train, validation, target_error=0.2).measured
    percent = _advised(train, validation, target_error=5.0)
    assert "give 0.05 for 5 %" in percent.measured
    assert "target_error" not in percent.numbers
    loss = _advised(
        levels(2.3, 0.5), dataclasses.replace(levels(2.3, 0.6), eval_after=level(0.6, wrong=None)), target_error=5.0
    )
    assert "The target of 5 is reached" in loss.measured


def test_a_loss_that_still_falls_is_told() -> None:
    steps = (*(1.0,) * 30, *(0.9, 1.1) * 7, 1.0, *(0.7, 0.9) * 7, 0.8)
    validation = _wrong(0.02, 0.1)
    run = rehearsal(seen=_wrong(0.01, 0.1), validation=validation, losses=steps)
    assert "still falls (from 1 to 0.8 over the last 30" in generalization(run, overfit(), RULES, None).measured
    flat = rehearsal(seen=_wrong(0.01, 0.1), validation=validation, losses=(*steps[:45], *(0.85, 1.13) * 7, 0.95))
    assert "still falls" not in generalization(flat, overfit(), RULES, None).measured
    short = rehearsal(seen=_wrong(0.01, 0.1), validation=validation, losses=steps[:59])
    assert "still falls" not in generalization(short, overfit(), RULES, None).measured


@pytest.mark.parametrize(("after", "near"), [(2.31, True), (2.29, True), (3.0, False), (1.2, False)])
def test_validation_near_the_limits_says_so(after: float, near: bool) -> None:
    verdict = _judge(levels(2.3, after, lag=0.2))
    assert bool(verdict.near) is near, verdict.near
    assert set(verdict.spread) <= set(verdict.numbers)
    assert verdict.spread["validation"] > 0
