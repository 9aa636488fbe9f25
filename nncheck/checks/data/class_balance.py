"""Weights or sampling make the imbalance of the classes worse, or an extreme one meets nothing.

What it does
    Counts how often each class comes in the training set, and compares the class weights of the loss, `pos_weight` and the
    weights of the sampler with it. Tells the accuracy of always saying the most frequent class, and the entropy of the labels:
    what a network has to beat.
Why it matters
    Weights that follow the frequency instead of its inverse make a network ignore the rare classes all the more. A sampler that is
    given one weight for each class draws the first few samples of the set again and again, and no others.
How to fix
    Weigh by the inverse: `weight = n / (C * counts)`, `pos_weight = negatives / positives`. Give a `WeightedRandomSampler` one
    weight for each sample: `weights = class_weights[labels]`.
Known limits
    Imbalance by itself is no fault and is only told, up to 99 % of one class in a task of one label a sample; tokens, pixels and
    boxes are imbalanced by nature. Weights chosen for what errors cost look the same as wrong ones.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019); Humbatova et al. (2020): unbalanced training data.
"""

import math

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.probes.loss_targets import LossTarget, LossTargets
from nncheck.probes.sampling import Sampling
from nncheck.probes.training_data import TrainingData
from nncheck.registry import check
from nncheck.survey.labels import TargetStatistics
from nncheck.survey.survey import Survey
from nncheck.verdict import Bars, Remedy, Stage, Verdict, failed, passed, skipped, warned

CLASSES = ("cross-entropy", "nll", "multi-margin")
BINARY = ("bce", "bce-with-logits")
# Classes and weights count as different if they differ by more than this factor: less is the luck of the draw.
UNEVEN, WEIGHTED = 1.5, 1.2
# Rank correlation of weight and frequency above which weights follow it. Of two classes' weights it is 1 or -1.
FOLLOWS = 0.5
# pos_weight * p / (1 - p) is the weight of all positives over that of all negatives: 1 if they are balanced. Below LEAST with a
# weight that makes it smaller (or above its inverse with one that makes it larger), the weight is the wrong way round.
LEAST = 0.2
# A weight within a hundredth of one is none.
NONE = 0.99
# Always answering the same is right so often that accuracy says nothing any more; with fewer samples of the rest than FEWEST
# nothing can be said of them.
EXTREME, FEWEST = 0.99, 5
# A sampler that draws the most frequent class so much more often than the set holds it.
WORSE = 0.1
# An output that starts within this of the log-odds was given the classes' frequency as its bias.
KNOWS = 1.0
BARS = 40


@check(stage=Stage.DATA, after=("forward-pass",), consequence_of=("label-range",), part="train_loader")
def class_balance(losses: LossTargets, data: TrainingData, sampling: Sampling) -> Verdict:
    """Judge the sampler first, then each loss's weights, then the imbalance itself."""
    survey = data.survey
    found = _few_weights(sampling)
    if found is not None:
        return found
    # A whole pass without a draw is a count; anything else is a sample.
    drawn = sampling.weights is not None or not survey.coverage.complete
    told: Verdict | None = None
    for call in losses.calls:
        seen = survey.labels(call.own) if call.own else None
        if seen is None or not call.roots:
            continue
        counts = class_counts(call, seen)
        if call.kind in BINARY and seen.whole == 1 and seen.low >= 0 and seen.high <= 1:
            found = _positive_weight(call, seen) or _extreme(call, _two(seen), sampling, survey)
            told = told or _told(_two(seen), survey, call, drawn=drawn)
        elif counts is not None and len(counts) > 1:
            found = _weights(call, counts) or _sampler(counts, sampling) or _extreme(call, counts, sampling, survey)
            told = told or _told(counts, survey, call, drawn=drawn)
            said = _near_sampler(counts, sampling)
            told = uncertain(told, {}, said) if said else told
        if found is not None:
            return found
    return told or skipped("no loss of torch's is given classes or yes/no labels of the batch")


def class_counts(call: LossTarget, seen: TargetStatistics) -> dict[int, float] | None:
    """How often each class is asked for; None if the labels are no classes."""
    if call.kind not in CLASSES:
        return None
    if call.soft:
        return {i: mean * seen.samples for i, mean in enumerate(seen.columns.mean) if mean > 0}
    if seen.counts is None:
        return None
    return {int(v): float(n) for v, n in seen.counts if v != call.ignore_index and 0 <= v < call.classes}


def _two(seen: TargetStatistics) -> dict[int, float]:
    return {0: (1 - seen.mean) * seen.values, 1: seen.mean * seen.values}


def _few_weights(sampling: Sampling) -> Verdict | None:
    if sampling.weights is None or sampling.length is None or sampling.weights >= sampling.length:
        return None
    number = sampling.weights
    return failed(
        f"{sampling.sampler} has {number} weights for {sampling.length} samples: only the first {number} are ever drawn",
        expected=f"one weight for each of the {sampling.length} samples",
        summary=f"the sampler draws only the first {number} samples, again and again",
        numbers={"weights": float(number), "samples": float(sampling.length)},
        places=(sampling.place,) if sampling.place else (),
        causes=("it was given one weight for each class, not for each sample",),
        remedies=(
            Remedy(
                text="look the class's weight up for each sample",
                code="weights = class_weights[labels]\nsampler = WeightedRandomSampler(weights, num_samples=len(labels))",
            ),
        ),
    )


def _weights(call: LossTarget, counts: dict[int, float]) -> Verdict | None:
    """Class weights that follow the frequency."""
    classes = [c for c in counts if c < len(call.weights) and call.weights[c] > 0 and counts[c] > 0]
    if len(classes) < 2:
        return None
    weights, numbers = [call.weights[c] for c in classes], [counts[c] for c in classes]
    if max(weights) < WEIGHTED * min(weights) or max(numbers) < UNEVEN * min(numbers):
        return None
    correlation = rank_correlation(weights, numbers)
    products = [w * n for w, n in zip(weights, numbers, strict=True)]
    before, after = max(numbers) / sum(numbers), max(products) / sum(products)
    if correlation < FOLLOWS or after <= before:
        return None
    frequent = max(classes, key=lambda c: counts[c])
    rare = min(classes, key=lambda c: counts[c])
    return failed(
        f"class {frequent} comes {counts[frequent]:.0f} times and weighs {call.weights[frequent]:.3g}, class {rare} comes "
        f"{counts[rare]:.0f} times and weighs {call.weights[rare]:.3g}; the rank correlation of weight and frequency is "
        f"{correlation:.2f}",
        expected="weights that fall with the frequency",
        summary=f"the class weights follow the frequency: they raise class {frequent}'s share of the loss from "
        f"{100 * before:.3g} % to {100 * after:.3g} %",
        numbers={"correlation": correlation, "share": before, "weighted_share": after},
        places=(call.place,),
        causes=("the counts themselves were given as weights", "weights and classes are in another order"),
        remedies=(
            Remedy(text="weigh by the inverse of the frequency", code="weight = counts.sum() / (len(counts) * counts)"),
        ),
        exhibits=(_bars(counts),),
    )


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing theirs."""
    x, y = _ranks(a), _ranks(b)
    mean = (len(x) - 1) / 2
    top = sum((i - mean) * (j - mean) for i, j in zip(x, y, strict=True))
    bottom = math.sqrt(sum((i - mean) ** 2 for i in x) * sum((j - mean) ** 2 for j in y))
    return top / bottom if bottom else 0.0


def _ranks(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [(ordered.index(v) + len(ordered) - 1 - ordered[::-1].index(v)) / 2 for v in values]


def _positive_weight(call: LossTarget, seen: TargetStatistics) -> Verdict | None:
    """pos_weight the wrong way round, in most of the columns it is given for."""
    if not call.pos_weight:
        return None
    by_column = len(call.pos_weight) > 1 and len(seen.columns) == len(call.pos_weight)
    rates = seen.columns.mean if by_column else (seen.mean,)
    pairs = [(w, p) for w, p in zip(call.pos_weight, rates, strict=False) if 0 < p < 1 and w > 0]
    wrong = [(w, p) for w, p in pairs if _wrong_way(w, p)]
    if not pairs or 2 * len(wrong) <= len(pairs):
        return None
    weight, rate = wrong[0]
    ideal = (1 - rate) / rate
    # A share of negatives given for their ratio to positives (0.95 for 19) hardly weighs at all.
    judge = warned if 1 / WEIGHTED < weight < WEIGHTED else failed
    return judge(
        f"{100 * rate:.3g} % of the labels are positive, and pos_weight is {weight:.3g}: all positives together weigh "
        f"{weight * rate / (1 - rate):.3g} times as much as all negatives",
        expected=f"pos_weight near negatives / positives = {ideal:.3g}, or none",
        summary=f"pos_weight={weight:.3g} is the wrong way round for {100 * rate:.3g} % of positives: {ideal:.3g} would balance "
        "them",
        numbers={"pos_weight": weight, "positive_rate": rate, "balanced": ideal},
        places=(call.place,),
        causes=("positives / negatives, or the share of negatives, was given in place of negatives / positives",),
        remedies=(
            Remedy(text="divide the other way", code="pos_weight = (y == 0).sum() / (y == 1).sum()"),
            Remedy(text="or leave pos_weight out"),
        ),
    )


def _wrong_way(weight: float, rate: float) -> bool:
    balance = weight * rate / (1 - rate)
    return (balance < LEAST and weight < NONE) or (balance > 1 / LEAST and weight * NONE > 1)


def _sampler(counts: dict[int, float], sampling: Sampling) -> Verdict | None:
    """A sampler that draws the most frequent class more often than the set holds it."""
    if sampling.weights is None or not sampling.labels:
        return None
    held = dict(sampling.labels)
    frequent = max(held, key=held.__getitem__)
    before = held[frequent] / sum(held.values())
    after = counts.get(frequent, 0.0) / max(1.0, sum(counts.values()))
    if max(held.values()) < UNEVEN * min(held.values()) or after - before < WORSE:
        return None
    return failed(
        f"class {frequent} is {100 * before:.3g} % of the data set and {100 * after:.3g} % of what {sampling.sampler} draws",
        expected="a share that is no larger than in the data set",
        summary=f"the sampler's weights follow the frequency: class {frequent} goes from {100 * before:.3g} % to "
        f"{100 * after:.3g} % of the samples",
        numbers={"share": before, "drawn_share": after},
        spread={"drawn_share": share_error(after, sum(counts.values()))},
        near=_near_sampler(counts, sampling),
        places=(sampling.place,) if sampling.place else (),
        causes=("the counts were given as weights, not their inverse",),
        remedies=(Remedy(text="weigh by the inverse", code="weights = (1 / counts)[labels]"),),
        exhibits=(_bars(counts),),
    )


def _near_sampler(counts: dict[int, float], sampling: Sampling) -> str:
    """Of the shares that `_sampler` compares: what is drawn is known as counted."""
    if sampling.weights is None or not sampling.labels:
        return ""
    held = dict(sampling.labels)
    if max(held.values()) < UNEVEN * min(held.values()):
        return ""
    frequent, total = max(held, key=held.__getitem__), max(1.0, sum(counts.values()))
    after = counts.get(frequent, 0.0) / total
    more = after - held[frequent] / sum(held.values())
    name = f"what is drawn of class {frequent} beyond its share"
    return near(Edge(name=name, value=more, limit=WORSE, error=share_error(after, total)))


def _extreme(call: LossTarget, counts: dict[int, float], sampling: Sampling, survey: Survey) -> Verdict | None:
    """One class nearly everywhere in a task of one label a sample, and nothing done about it."""
    total = sum(counts.values())
    if call.several or not survey.coverage.complete or not total or call.weights or call.pos_weight:
        return None
    frequent = max(counts, key=counts.__getitem__)
    share = counts[frequent] / total
    if share <= EXTREME or share == 1 or total - counts[frequent] < FEWEST or sampling.weights is not None:
        return None
    odds = math.log(counts[1] / counts[0]) if call.kind in BINARY else math.nan
    if not math.isnan(odds) and abs(call.output_mean - odds) < KNOWS:
        return None
    return warned(
        f"class {frequent} is {100 * share:.4g} % of {total:.0f} labels; neither the loss nor the sampler is weighted",
        expected=f"weights, a sampler or a bias that starts at the frequencies, beyond {100 * EXTREME:g} % of one class",
        summary=f"{100 * share:.4g} % of the labels are class {frequent}: who always says so is nearly always right",
        numbers={"share": share},
        places=(call.place,),
        causes=("the rare classes are rare in the world, or were lost when the set was put together",),
        remedies=(
            Remedy(
                text="start the output at the log of the frequencies, and judge by precision and recall, not accuracy",
                code="nn.init.constant_(head.bias, math.log(p / (1 - p)))",
            ),
            Remedy(text="or weigh the classes by the inverse of their frequency"),
        ),
        exhibits=(_bars(counts),),
    )


def _told(counts: dict[int, float], survey: Survey, call: LossTarget, *, drawn: bool) -> Verdict:
    total = sum(counts.values())
    shares = [n / total for n in counts.values() if n > 0] if total else []
    frequent = max(counts, key=counts.__getitem__)
    entropy = -sum(p * math.log(p) for p in shares)
    what = "predictions" if call.several else "labels"
    most = max(shares, default=0.0)
    # The entropy is the mean of -ln p over the labels.
    varies = max(0.0, sum(p * math.log(p) ** 2 for p in shares) - entropy**2)
    spread = {"majority": share_error(most, total), "entropy": math.sqrt(varies / total)} if drawn and shares else {}
    found = passed(
        f"class {frequent} is {100 * most:.3g} % of {total:.0f} {what} ({survey.coverage.words}): to beat are an accuracy of "
        f"{most:.3f} and a loss of {entropy:.4g}",
        expected="weights, if any, that fall with the frequency",
        numbers={"majority": most, "entropy": entropy, "classes": float(len(shares))},
        exhibits=(_bars(counts),) if len(counts) <= BARS else (),
    )
    return uncertain(found, spread)


def _bars(counts: dict[int, float]) -> Bars:
    chosen = sorted(counts)[:BARS]
    return Bars(
        title="How often each class comes",
        x_label="labels",
        labels=tuple(str(c) for c in chosen),
        values=tuple(counts[c] for c in chosen),
    )
