"""What is learned does not carry over to the validation set.

What it does
    Rehearses 60 updates and takes loss and errors before and after, in eval mode, on samples trained on, on samples of the
    training loader never trained on, and on validation samples drawn at random. Shows them beside the best constant answer and, if
    `target_error` (or `human_error`) is given, the error aimed at: what is bias, what variance, which regularisers are in use.
Why it matters
    New training samples and validation samples are both unknown to the network. If one kind gets better and the other worse, the
    validation set is not of the same kind, and whatever is chosen by it is chosen wrongly.
How to fix
    Give both sets the same preprocessing and the same numbers for the same classes: build them with one function, or split one
    data set. Look at ten validation samples with their labels.
Known limits
    Sixty updates say little of how well the set-up will do in the end: a gap is shown as advice, never as a finding. Needs a
    training loader of at least eight batches. A network that only memorises a small set is not accused.
Source
    Ng, "Machine Learning Yearning" (2018): bias and variance. McCandlish et al., "An Empirical Model of Large-Batch Training"
    (2018): noise scale.
"""

import math
from typing import Any

from nncheck.checks._near import Edge, near, of_t, share_error, uncertain
from nncheck.checks.learning import _bias_variance
from nncheck.checks.learning._bias_variance import errors_of
from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.overfit import OverfitBatch
from nncheck.probes.regularisers import Regularisers
from nncheck.probes.rehearsal import Level, Levels, Rehearsal
from nncheck.registry import check
from nncheck.verdict import Exhibit, Remedy, Stage, Table, Verdict, failed, passed, skipped, warned

# Fresh training samples get better for certain and by a quarter of their loss ...
SURE, BETTER = 6.0, 0.25
# ... while as many validation samples as this do not, and are worse than the fresh ones by so many standard errors.
SAMPLES, WORSE = 32, 6.0
# More than this part of the way from the best constant's loss to the floor is left: more training first.
STILL_FAR = 0.5
# What another seed changes in the noise scale, as a part of it (15 examples, 5 seeds each; median over them).
SEEDS_NOISE = 0.55


@check(
    stage=Stage.LEARNING,
    after=("forward-pass", "finite-values"),
    consequence_of=(
        "data-scale",
        "label-range",
        "input-preview",
        "loss-broadcast",
        "batch-mixing",
        "double-softmax",
        "train-val-shift",
    ),
    part="train_loader",
)
def generalization(
    run: Rehearsal, batch: OverfitBatch, rules: Regularisers | None, items: ItemRepeats | None
) -> Verdict:
    """Judge validation against fresh training samples; everything else is advice."""
    verdict = _judge(run, batch, rules, items)
    errors = errors_of(run, rules)
    steps = {} if errors is None else {"bias": errors.uncertain, "variance": errors.uncertain}
    noise = {"noise_scale": SEEDS_NOISE * verdict.numbers.get("noise_scale", 0.0)}
    return uncertain(verdict, {**_errors(run), **steps, **noise})


def _errors(run: Rehearsal) -> dict[str, float]:
    """Standard errors over the samples of each set."""
    found: dict[str, float] = {}
    for name, levels in (("train", run.seen), ("fresh", run.fresh), ("validation", run.validation)):
        if levels is not None and levels.eval_after is not None:
            now = levels.eval_after
            found[name] = now.error
            found[f"{name}_error"] = math.nan if now.wrong is None else share_error(now.wrong, levels.samples)
    return found


def _judge(run: Rehearsal, batch: OverfitBatch, rules: Regularisers | None, items: ItemRepeats | None) -> Verdict:
    numbers = {**_numbers(run), **_bias_variance.numbers(errors_of(run, rules))}
    noise = _noise(run)
    details: dict[str, Any] = {"numbers": numbers, "exhibits": (*_bias_variance.table(run, rules), *_table(run, batch))}
    if run.validation is None:
        why = (
            f"the validation loader fails: {run.no_validation}"
            if run.no_validation
            else "there is no validation loader"
        )
        return skipped(why, measured=noise, **details)
    if run.diverged or run.validation.eval_after is None or run.seen.eval_after is None:
        why = "the rehearsal diverged" if run.diverged else "the model gives no loss in eval mode"
        return skipped(why, measured=noise, **details)
    val, seen = run.validation, run.seen
    now = run.validation.eval_after
    measured = f"after {len(run.losses)} updates the loss is {_of(seen)} on samples trained on"
    if run.fresh is not None and run.fresh.eval_after is not None:
        measured += f", {_of(run.fresh)} on new ones of the training set"
    measured += f", {_of(val)} on validation samples" + (f"; {noise}" if noise else "")
    if run.fresh is not None and _apart(run.fresh, val):
        worse = val.eval_fall[1] < -SURE and batch.goal.exact and now.mean > batch.goal.constant
        return (failed if worse else warned)(
            f"{measured}; on new training samples it fell by {run.fresh.eval_fall[0]:.3g} (t = {run.fresh.eval_fall[1]:.1f}), on "
            f"validation samples by {val.eval_fall[0]:.3g} (t = {val.eval_fall[1]:.1f})",
            expected="a loss on validation samples that falls as on new training samples",
            summary="what helps on new training samples does not on validation samples: the two sets are of different kinds",
            causes=(
                "the classes are numbered in another order (two label encoders, two folders with different classes)",
                "other preprocessing: scaled or normalised differently, channels in another order",
                "validation inputs and labels are out of step: one of them was sorted or shuffled alone",
            ),
            remedies=(
                Remedy(
                    text="build both sets with the same function and the same list of classes, or split one data set"
                ),
            ),
            near=_near(run.fresh, val),
            **details,
        )
    after = run.seen.eval_after
    far = batch.goal.exact and batch.goal.share(after.mean) > STILL_FAR
    advice = _bias_variance.advice(run, rules, items, far=far)
    said = "" if run.fresh is None else _near(run.fresh, val)
    return passed(f"{measured}. {advice}", expected="a validation loss near the training loss", near=said, **details)


def _near(fresh: Levels, val: Levels) -> str:
    """Of the conditions of `_apart`."""
    before, after, now = fresh.eval_before, fresh.eval_after, val.eval_after
    if before is None or after is None or now is None or len(now.losses) < SAMPLES or not now.apart:
        return ""
    (gain, t), (val_gain, val_t) = fresh.eval_fall, val.eval_fall
    error = math.hypot(after.error, now.error)
    return near(
        Edge(name="the t of the fall on new training samples", value=t, limit=SURE, error=1.0),
        Edge(name="the fall on new training samples", value=gain, limit=BETTER * abs(before.mean), error=of_t(gain, t)),
        Edge(
            name="the fall on validation samples", value=val_gain, limit=0.0, error=of_t(val_gain, val_t), above=False
        ),
        Edge(name="the gap to validation samples", value=now.mean - after.mean, limit=WORSE * error, error=error),
    )


def _apart(fresh: Levels, val: Levels) -> bool:
    """Whether unseen training samples get clearly better and unseen validation samples do not."""
    before, after, now = fresh.eval_before, fresh.eval_after, val.eval_after
    if before is None or after is None or now is None or len(now.losses) < SAMPLES or not now.apart:
        return False
    gain, t = fresh.eval_fall
    error = math.hypot(after.error, now.error)
    return (
        t > SURE
        and gain > BETTER * abs(before.mean)
        and val.eval_fall[0] <= 0
        and math.isfinite(now.mean)
        and now.mean - after.mean > WORSE * error
    )


def _noise(run: Rehearsal) -> str:
    if run.noise is None or run.noise.batch is None:
        return ""
    scale = run.noise.batch
    return f"gradient noise and signal are equal at a batch of about {scale:.0f} (yours: {run.size})"


def _of(levels: Levels) -> str:
    now = levels.eval_after
    if now is None:
        return "unknown"
    return f"{now.mean:.4g}" + (f" ({now.wrong:.0%} wrong)" if now.wrong is not None else "")


def _numbers(run: Rehearsal) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, levels in (("train", run.seen), ("fresh", run.fresh), ("validation", run.validation)):
        if levels is not None and levels.eval_after is not None:
            found[name] = levels.eval_after.mean
            if levels.eval_after.wrong is not None:
                found[f"{name}_error"] = levels.eval_after.wrong
    if run.noise is not None and run.noise.batch is not None:
        found["noise_scale"] = run.noise.batch
    return found


def _table(run: Rehearsal, batch: OverfitBatch) -> tuple[Exhibit, ...]:
    rows: list[tuple[str, ...]] = []
    if batch.goal.exact:
        rows.append(("the best constant answer (first batch)", "", f"{batch.goal.constant:.4g}", "", ""))
    for name, levels in (
        ("samples trained on", run.seen),
        ("new samples of the training set", run.fresh),
        ("validation samples", run.validation),
    ):
        if levels is not None and levels.eval_before is not None and levels.eval_after is not None:
            rows.append(
                (
                    f"{name} ({levels.samples})",
                    f"{levels.eval_before.mean:.4g}",
                    f"{levels.eval_after.mean:.4g}",
                    _share(levels.eval_before),
                    _share(levels.eval_after),
                )
            )
    if not rows:
        return ()
    columns = ("", "loss before", "loss after", "wrong before", "wrong after")
    return (
        Table(title=f"Before and after {len(run.losses)} updates, in eval mode", columns=columns, rows=tuple(rows)),
    )


def _share(level: Level) -> str:
    return "" if level.wrong is None else f"{level.wrong:.0%}"
