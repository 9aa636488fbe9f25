"""Perfect predictions do not score 100 %: the accuracy is computed wrongly.

What it does
    Lets copies of the script run their first validation with the model's outputs replaced: by the targets themselves, and by wrong
    ones. Reads what the script's own accuracy becomes, where a variable or a printed line is called so.
Why it matters
    Everything is decided by this number: which checkpoint is kept, when to stop, what is reported. A wrong one still rises and
    falls like a right one.
How to fix
    Count hits over all samples and divide once: `correct += (output.argmax(1) == target).sum().item()`, then
    `correct / len(loader.dataset)`. Compare tensors of one shape. Take the argmax over the classes.
Known limits
    Only accuracies over classes or yes and no, in a validation over one loader of at most fifty batches, whose targets are used as
    the loader gives them. An average of batches of unequal size is right on perfect predictions.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): verify the evaluation with a model whose answers are known.
"""

import math

from nncheck.probes.metrics_seen import Metric, MetricsSeen
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Means of float32 numbers are off by some 1e-7 each; a printed number by half of its last digit.
ROUNDING = 1e-5
# A last batch that is left out, or counted twice, moves it by less.
SMALL = 0.05


@check(stage=Stage.LOOP)
def metric_definition(seen: MetricsSeen) -> Verdict:
    judged = [metric for metric in seen.metrics if _is_accuracy(metric, seen)]
    if not judged:
        return skipped("the validation computes no accuracy that could be followed")
    wrong = [metric for metric in judged if not _is_one(metric)]
    said = "; ".join(dict.fromkeys(f"{m.place.name} becomes {m.right:.6g}" for m in (wrong or judged)[:3]))
    measured = f"with perfect predictions for {seen.samples:,} samples in {seen.batches} batches, {said}"
    expected = "1, or 100 %"
    numbers = {"samples": float(seen.samples), "batches": float(seen.batches), "perfect": (wrong or judged)[0].right}
    if not wrong:
        return passed(measured, expected=expected, numbers=numbers)
    worst = max(wrong, key=_off)
    say = failed if _off(worst) > SMALL else warned
    return say(
        f"{measured}; with wrong ones {worst.wrong:.6g}, with the model's own {worst.own:.6g}",
        expected=expected,
        summary=f"perfect predictions score {worst.right:.6g} in {worst.place.name}, not 1 or 100 %",
        numbers=numbers,
        places=_places(wrong),
        causes=_causes(worst, seen),
        remedies=(
            Remedy(
                text="count the hits of all samples and divide once by their number",
                code="correct += (output.argmax(dim=1) == target).sum().item()\naccuracy = correct / len(loader.dataset)",
            ),
        ),
    )


def _is_accuracy(metric: Metric, seen: MetricsSeen) -> bool:
    """Whether a number called accuracy behaves like one: it hangs on the outputs, and is no sum that is still to be divided."""
    values = (metric.own, metric.right, metric.wrong)
    if metric.own == metric.right == metric.wrong or not all(math.isfinite(value) and value >= 0 for value in values):
        return False
    if _is_one(metric):
        return True
    sums: tuple[float, ...] = (seen.samples, seen.targets)
    if metric.digits < 0:
        sums = (*sums, seen.batches, 100 * seen.batches)
    if any(math.isclose(metric.right, total, rel_tol=ROUNDING) for total in sums):
        return False
    # Better outputs, better score; one that is upside down still counts hits among the samples. A loss does neither.
    return metric.wrong <= metric.own <= metric.right or all(_is_share(value, seen) for value in values)


def _is_share(value: float, seen: MetricsSeen) -> bool:
    """Whether a number is so many hits divided by the number of samples or targets, or the hundredfold of that."""
    hits = [value / whole * total for total in (seen.samples, seen.targets) for whole in (1, 100)]
    return any(abs(number - round(number)) < 1e-3 for number in hits)


def _is_one(metric: Metric) -> bool:
    rounding = ROUNDING if metric.digits < 0 else 0.51 * 10.0**-metric.digits
    return any(abs(metric.right - whole) <= max(rounding, ROUNDING * whole) for whole in (1.0, 100.0))


def _off(metric: Metric) -> float:
    return min(abs(metric.right / whole - 1) for whole in (1.0, 100.0))


def _places(metrics: list[Metric]) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(metric.place for metric in metrics if metric.place.file is not None))[:4]


def _causes(metric: Metric, seen: MetricsSeen) -> tuple[str, ...]:
    per_batch = seen.targets / seen.batches
    if any(math.isclose(metric.right, whole * per_batch, rel_tol=1e-3) for whole in (1, 100)):
        return ("hits are counted over samples, and divided by the number of batches",)
    if any(math.isclose(metric.right * per_batch, whole, rel_tol=1e-3) for whole in (1, 100)):
        return ("shares of batches are added up, and divided by the number of samples",)
    if metric.right > 100 or 1 < metric.right < 100:
        return (
            "hits are divided by another number than that of the samples",
            "two shapes are compared by broadcasting",
        )
    return (
        "the argmax, or the order of the best, is taken along another dimension or the wrong way round",
        "targets and predictions count classes from different numbers, or a part of the samples is left out",
    )
