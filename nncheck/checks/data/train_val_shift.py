"""Validation data are prepared differently from training data, or hold other labels.

What it does
    Puts the inputs of both loaders side by side: type, shape, range, mean and spread of every feature or channel. Compares the
    labels, and fetches validation items twice under different seeds.
Why it matters
    A validation set that is not normalised like the training set makes a good network look bad, or a bad one good. One that is
    augmented gives a noisy score; one that lacks classes says nothing about them.
How to fix
    Use the training set's mean and standard deviation for both. After `random_split` give the validation part its own transform
    without random parts. Shuffle, or split by class (`train_test_split(..., stratify=y)`), before cutting off the validation part.
Known limits
    Small drifts, as between years, are left alone: half of all features must differ by more than half a standard deviation, beyond
    chance. Training data drawn by weights, and class shares that differ, are told only. Of tokens, only
    which ones come is compared.
Source
    Sculley et al., "Hidden Technical Debt in Machine Learning Systems" (2015). Rabanser et al., "Failing Loudly" (2019).
"""

import math
from collections.abc import Callable
from typing import Any

from nncheck.checks._near import Edge, near_either, share_error, uncertain
from nncheck.probes.split_shift import SHOWN, Pair, Side, SplitShift
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Table, Verdict, failed, passed, warned

# A mean that lies this many training standard deviations off, or a spread of another size: two halves of one distribution do not
# differ so. Weaker augmentation in validation narrows the spread by less.
MEAN, RATIO = 0.5, 2.0
# And beyond chance: this many standard errors, each sample counted as one observation however many pixels it has. Of 4,000
# features, one is off by chance in fewer than 3 of 1,000 sets. The spread of heavy tails (kurtosis 10) is known to 1.5 / sqrt(n).
ERRORS, TAILS = 5.0, 1.5
# Features that must differ, of those that vary: a time or a counter among the features drifts by itself.
SHARE = 0.5
LEAST = 20
# A target: kept in other units, or sorted before the split. A trend moves its mean by less than two standard deviations.
TARGET_MEAN, TARGET_RATIO = 2.0, 3.0
# Of the training labels, this share belongs to classes of which the validation set has no sample at all; and the chance that it
# has none, if it were drawn like them.
MISSING, CHANCE = 0.25, 1e-6
# Of all tokens, these never come on the other side, each of which should come 20 times: by chance that has p = e^-20 for one of
# them; topics drift, but not a quarter of the words.
TOKENS = 0.25
# Not normalised: within [0, 1] or [0, 255], while training values are centred.
CENTRED = -0.3


@check(stage=Stage.DATA, part="val_loader")
def train_val_shift(seen: SplitShift) -> Verdict:
    """Judge types first, then scales, labels, and chance."""
    measured = _measured(seen)
    judges = (_types, _scales, _tokens, _target, _labels, _chance)
    found, judge = next(((found, judge) for judge in judges if (found := judge(seen)) is not None), (None, None))
    nearly = [said(seen) for judged, said in _NEAR if judge in (None, judged)]
    expected = "validation data prepared like the training data, without random parts"
    details: dict[str, Any] = {
        "numbers": {"items": float(seen.items), "items_that_change": float(seen.changed)},
        "exhibits": tuple(_table(pair) for pair in seen.inputs if pair.train.kind == "float")[:2],
    }
    if found is None:
        return uncertain(passed(measured, expected=expected, **details), {}, next(filter(None, nearly), ""))
    status, said, summary, causes, remedy = found
    verdict = status(
        f"{said}; {measured}", expected=expected, summary=summary, causes=causes, remedies=(remedy,), **details
    )
    return uncertain(verdict, {}, next(filter(None, nearly), ""))


def _name(pair: Pair) -> str:
    return "the input" if pair.name in ("", "[0]") else pair.name


def _measured(seen: SplitShift) -> str:
    parts = [
        f"{_name(pair)} has mean {pair.train.mean:.3g} and spread {pair.train.std:.3g} in training, "
        f"{pair.val.mean:.3g} and {pair.val.std:.3g} in validation"
        for pair in seen.inputs[:3]
        if pair.train.kind == "float" and pair.val.kind == "float"
    ]
    if seen.train_labels and seen.val_labels:
        parts.append(f"{len(seen.train_labels)} classes in training, {len(seen.val_labels)} in validation")
    if seen.items:
        parts.append(f"{seen.changed} of {seen.items} validation items change when they are fetched again")
    return "; ".join(parts) or "there is nothing to compare but the shapes"


_Found = tuple[Callable[..., Verdict], str, str, tuple[str, ...], Remedy]
_SAME = Remedy(
    text="prepare both with the training set's numbers",
    code="mean, std = x_train.mean(0), x_train.std(0); x_val = (x_val - mean) / std",
)


def _types(seen: SplitShift) -> _Found | None:
    for pair in seen.inputs:
        one, other = pair.train, pair.val
        if one.dtype != other.dtype:
            what = f"{one.dtype} in training and {other.dtype} in validation"
        elif len(one.shape) == len(other.shape) == 1 and one.shape != other.shape and one.kind == "float":
            what = f"{one.shape[0]} features in training and {other.shape[0]} in validation"
        else:
            continue
        return (
            warned,
            f"{_name(pair)} has {what}",
            f"validation inputs are of another type: {what}",
            ("the two parts go through different transforms, or a conversion was forgotten in one",),
            Remedy(text="use one function that prepares both"),
        )
    return None


def _scales(seen: SplitShift) -> _Found | None:
    for pair in seen.inputs:
        one, other = pair.train, pair.val
        if not _comparable(pair):
            continue
        places = _places(pair)
        off = [p for p in places if _differs(*p, one.samples, other.samples)]
        if not places or len(off) < SHARE * len(places):
            continue
        raw = other.low >= 0 and (other.high <= 1 or (other.high <= 255 and other.high > 64)) and one.low < CENTRED
        what = f"{len(off)} of {len(places)} {pair.what}" if pair.what else "all values together"
        said = f"{what} differ by more than {MEAN} standard deviations in mean or {RATIO:g} times in spread"
        name = "" if pair.name in ("", "[0]") else f" of {pair.name}"
        summary = (
            f"validation inputs are not normalised: they lie in {other.low:.3g} to {other.high:.3g}, "
            f"training inputs in {one.low:.3g} to {one.high:.3g}"
            if raw
            else f"validation inputs{name} are scaled otherwise than training inputs: mean {other.mean:.3g} instead of "
            f"{one.mean:.3g}, spread {other.std:.3g} instead of {one.std:.3g}"
        )
        causes = (
            "normalisation was left out of the validation transform, or uses other numbers",
            "the data were split along something that changes their distribution (time, source)",
        )
        return (failed if raw else warned), said, summary, causes, _SAME
    return None


def _comparable(pair: Pair) -> bool:
    floats = pair.train.kind == pair.val.kind == "float"
    return floats and min(pair.train.samples, pair.val.samples) >= LEAST


def _near_scales(seen: SplitShift) -> str:
    """Of the share of places that differ: those near their own limits may be counted or not."""
    for pair in filter(_comparable, seen.inputs):
        edges = [_edges(*place, pair.train.samples, pair.val.samples) for place in _places(pair)]
        needed = SHARE * len(edges)
        off = sum(any(edge.holds for edge in both) for both in edges)
        turning = [both for both in edges if near_either(*both)]
        lost = sum(any(edge.holds for edge in both) for both in turning)
        if turning and (off - lost < needed if off >= needed else off + len(turning) - lost >= needed):
            return near_either(*turning[0])
    return ""


def _tokens(seen: SplitShift) -> _Found | None:
    if seen.tokens is None or not max(seen.tokens) > TOKENS:
        return None
    where, there = ("validation", "training") if seen.tokens[0] >= seen.tokens[1] else ("training", "validation")
    return (
        warned,
        f"{max(seen.tokens):.0%} of all tokens in {there} are such as {where} never has, where each should come 20 times or more",
        f"{where} lacks {max(seen.tokens):.0%} of the tokens that {there} is made of: they were encoded differently",
        (
            "the two parts were tokenised by different code, or with different vocabularies",
            "one was lower-cased, cut or mapped to the unknown word, the other not",
        ),
        Remedy(text="encode both with one function and the vocabulary of the training set"),
    )


def _places(pair: Pair) -> list[tuple[float, float, float, float]]:
    """(mean, std) in training, (mean, std) in validation, of each feature that varies in training."""
    one, other = pair.train, pair.val
    if not pair.what:
        return [(one.mean, one.std, other.mean, other.std)] if one.std > 0 else []
    return [p for p in zip(one.means, one.stds, other.means, other.stds, strict=True) if p[1] > 0]


def _differs(mean: float, std: float, val_mean: float, val_std: float, samples: int, val_samples: int) -> bool:
    return any(edge.holds for edge in _edges(mean, std, val_mean, val_std, samples, val_samples))


def _edges(
    mean: float, std: float, val_mean: float, val_std: float, samples: int, val_samples: int,
    limits: tuple[float, float] = (MEAN, RATIO),
) -> tuple[Edge, Edge]:  # fmt: skip
    """Of mean and spread, either of which may differ by more than the limit and beyond chance."""
    error = math.sqrt(1 / samples + 1 / val_samples)
    # A validation part that happens to be wider has a larger error of its own.
    wider = error * max(1.0, val_std / std)
    apart, ratio = abs(val_mean - mean) / std, 0.0
    if val_std > 0:  # else: a rare flag that no validation sample has
        ratio = abs(math.log(val_std / std))
    tails = TAILS * error
    far = "the distance of the validation mean in standard deviations"
    return (
        Edge(name=far, value=apart, limit=max(limits[0], ERRORS * wider), error=wider),
        Edge(
            name="the logarithm of the ratio of spreads", value=ratio, limit=max(math.log(limits[1]), ERRORS * tails), error=tails
        ),
    )  # fmt: skip


def _target_edges(seen: SplitShift) -> tuple[Edge, ...]:
    if seen.numbers is None:
        return ()
    one, other = seen.numbers.train, seen.numbers.val
    if min(one.samples, other.samples) < LEAST or not one.std > 0 or not other.std > 0:
        return ()
    found = (one.mean, one.std, other.mean, other.std, one.samples, other.samples)
    return _edges(*found, limits=(TARGET_MEAN, TARGET_RATIO))


def _near_target(seen: SplitShift) -> str:
    return near_either(*_target_edges(seen))


def _target(seen: SplitShift) -> _Found | None:
    if seen.numbers is None or not any(edge.holds for edge in _target_edges(seen)):
        return None
    one, other = seen.numbers.train, seen.numbers.val
    return (
        warned,
        f"targets have mean {one.mean:.3g} and spread {one.std:.3g}, validation ones {other.mean:.3g} and {other.std:.3g}",
        f"validation targets are on another scale: mean {other.mean:.3g} instead of {one.mean:.3g}, spread {other.std:.3g} "
        f"instead of {one.std:.3g}",
        ("only the training targets were standardised", "the data were sorted by target before the split"),
        Remedy(text="standardise both with the training targets' mean and spread; shuffle before splitting"),
    )


def _labels(seen: SplitShift) -> _Found | None:
    train, val = dict(seen.train_labels), dict(seen.val_labels)
    total, asked = sum(train.values()), sum(val.values())
    common = set(train) & set(val)
    # Sets without a common class are meant: retrieval and few-shot learning are validated so.
    if not common or asked < LEAST or seen.weighted:
        return None
    missing = sum(count for label, count in train.items() if label not in val) / total
    unknown = sum(count for label, count in val.items() if label not in train) / asked
    if missing > MISSING and (1 - missing) ** asked < CHANCE:
        lacks = sorted(set(train) - set(val))
        said = f"{missing:.0%} of the training samples belong to {len(lacks)} classes of which validation has none"
        summary = f"the validation set lacks {len(lacks)} of {len(train)} classes ({_few(lacks)})"
    elif unknown > MISSING and (1 - unknown) ** total < CHANCE:
        lacks = sorted(set(val) - set(train))
        said = f"{unknown:.0%} of the validation samples belong to {len(lacks)} classes of which training has none"
        summary = f"the training set lacks {len(lacks)} of the {len(val)} classes of the validation set ({_few(lacks)})"
    else:
        return None
    return (
        warned,
        said,
        summary,
        ("the data were sorted by class when the last part was cut off for validation",),
        Remedy(text="shuffle, or split by class", code="train_test_split(x, y, stratify=y)"),
    )


def _near_labels(seen: SplitShift) -> str:
    """Of the shares that belong to classes which the other side lacks; that it lacks them is beyond chance."""
    train, val = dict(seen.train_labels), dict(seen.val_labels)
    total, asked = sum(train.values()), sum(val.values())
    if not set(train) & set(val) or asked < LEAST or seen.weighted:
        return ""
    missing = sum(count for label, count in train.items() if label not in val) / total
    unknown = sum(count for label, count in val.items() if label not in train) / asked
    return near_either(
        *(
            Edge(name=f"the share of {what} samples of classes that the other side lacks", value=share, limit=MISSING, error=error)
            for what, share, error, chance in (
                ("training", missing, share_error(missing, total), (1 - missing) ** asked),
                ("validation", unknown, share_error(unknown, asked), (1 - unknown) ** total),
            )
            if chance < CHANCE
        )
    )  # fmt: skip


# What is said of each kind of finding, and of a pass, that rests on a figure.
_NEAR = ((_scales, _near_scales), (_target, _near_target), (_labels, _near_labels))


def _few(labels: list[float]) -> str:
    return ", ".join(f"{label:g}" for label in labels[:5]) + (", ..." if len(labels) > 5 else "")


def _chance(seen: SplitShift) -> _Found | None:
    if not seen.labels_kept or not seen.changed or seen.items < 2:
        return None
    shared = "`random_split` gives both parts one data set, and with it one transform" if seen.same_data else ""
    return (
        warned,
        "the labels stay, the inputs are drawn anew",
        f"validation items are augmented: {seen.changed} of {seen.items} come out differently each time they are read",
        (shared or "the validation transform has random parts (crops, flips, noise)",),
        Remedy(
            text="give the validation part a data set of its own, with a transform that has no random parts",
            code="val_set = Subset(MyData(transform=plain), val_set.indices)",
        ),
    )


def _table(pair: Pair) -> Table:
    def row(name: str, one: tuple[float, float], other: tuple[float, float]) -> tuple[str, ...]:
        return (name, *(f"{value:.3g}" for value in (*one, *other)))

    def whole(side: Side) -> tuple[float, float]:
        return side.mean, side.std

    rows = [row("all", whole(pair.train), whole(pair.val))]
    for index, (mean, std, val_mean, val_std) in enumerate(_places(pair)[:SHOWN] if pair.what else ()):
        rows.append(row(f"{pair.what[:-1]} {index}", (mean, std), (val_mean, val_std)))
    return Table(
        title=f"{_name(pair)} in training and validation",
        columns=("", "mean", "spread", "validation mean", "validation spread"),
        rows=tuple(rows),
    )
