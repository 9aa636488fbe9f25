"""What can be wrong with the size of numbers before the first layer, feature by feature and in all."""

from __future__ import annotations

import math
from statistics import median

from nncheck.checks._near import Edge, near
from nncheck.probes.network_input import Entry
from nncheck.survey.features import InputStatistics
from nncheck.verdict import Remedy, Table, Verdict, warned

# A feature is a giant if it is so large itself (rms) and its size is so many times the spread of the least varied one: unscaled
# wine has 2,500, California housing 3,800, breast cancer 300,000; standardised tables have 1, principal components of one scale
# stay below a size of 30.
GIANT, GIANT_TO_SMALLEST = 100.0, 1000.0
# A column that is nearly always zero is a flag or a rare count: its spread says nothing about its unit.
MOSTLY_EMPTY = 0.9
# Half of a ReLU layer's units are dead and the other half always on where the offset is so many times the spread (100 +- 1 and
# 10 +- 1 measured); positive images have 0.5 to 6. An offset below FAR in itself is made up for by the bias.
OFFSET, FAR = 10.0, 5.0
# Whatever its size, an input that varies by so little of itself has lost its spread (images divided twice, then normalised: 400).
LOST, NOTICEABLE = 33.0, 0.1
# Levels in decibels have a size of 50, means of unscaled colours 120; larger numbers make a network start with answers as large.
LARGE = 100.0
# Values that are all below this: what a layer of default biases (1/sqrt(inputs)) answers no longer depends on them.
TINY, TINY_SPREAD = 0.01, 0.005
# A position is standardised if mean and deviation are this near to 0 and 1, by a computation and not by chance; it is not if its
# mean is further than OFF from 0 or its deviation outside RANGE.
EXACT, OFF, RANGE = 0.02, 0.3, (0.5, 2.0)
# A first BatchNorm's input against what it was trained with. Leaving ImageNet's mean and deviation out divides the variance by
# 13 to 20; another set of photographs changes it by a factor of two or three.
VARIANCE, SHIFT = 6.0, 2.0

ROWS = 12


def candidates(entry: Entry) -> list[int]:
    """The features whose unit can be judged: those that vary, in more than two values, and are not nearly always zero."""
    spread = entry.features
    return [
        i for i in range(len(spread)) if spread.std[i] > 0 and not entry.binary[i] and entry.empty[i] < MOSTLY_EMPTY
    ]


def features(entry: Entry, trained: str) -> Verdict | None:
    """The first fault found in one entrance's numbers."""
    found = _against_training(entry) if trained else _giants(entry)
    if found is not None or trained:
        return found
    return _offset(entry) or _large(entry) or _tiny(entry)


def near_features(entry: Entry, trained: str) -> str:
    """What is to be said of sound features where other samples may tell otherwise."""
    if trained:
        return ""
    return _near_giants(entry) or ("" if entry.normalised else _near_large(entry))


def _part(entry: Entry) -> float:
    """A deviation of n numbers is known to 1 / sqrt(2 n) of it, each sample counted as one."""
    return 1 / math.sqrt(2 * max(1, entry.samples))


def _near_giants(entry: Entry) -> str:
    pair = _extremes(entry)
    if pair is None:
        return ""
    (_, size), (_, least) = pair
    part, ratio = _part(entry), size / least
    return near(
        Edge(name="the size of the largest feature", value=size, limit=GIANT, error=part * size),
        Edge(name="its ratio to the least spread", value=ratio, limit=GIANT_TO_SMALLEST, error=2 * part * ratio),
    )


def _near_large(entry: Entry) -> str:
    error = math.sqrt(2) * _part(entry) * entry.std
    return near(Edge(name="the size of the input", value=entry.rms, limit=LARGE, error=error))


def _extremes(entry: Entry) -> tuple[tuple[int, float], tuple[int, float]] | None:
    """(feature, size) of the largest, and (feature, deviation) of the one that varies least, where features have units."""
    chosen = candidates(entry)
    if len(chosen) < 2 or len(entry.shape) > 3 or entry.kind == "conv":
        return None
    spread = entry.features
    largest = max(chosen, key=lambda i: math.hypot(spread.mean[i], spread.std[i]))
    smallest = min(chosen, key=spread.std.__getitem__)
    return (largest, math.hypot(spread.mean[largest], spread.std[largest])), (smallest, spread.std[smallest])


def _giants(entry: Entry) -> Verdict | None:
    chosen, pair = candidates(entry), _extremes(entry)
    if pair is None:
        return None
    spread = entry.features
    size = {i: math.hypot(spread.mean[i], spread.std[i]) for i in chosen}
    largest, smallest = pair[0][0], pair[1][0]
    ratio = size[largest] / spread.std[smallest]
    if size[largest] < GIANT or ratio < GIANT_TO_SMALLEST:
        return None
    share = size[largest] ** 2 / sum(s * s for s in size.values())
    return warned(
        f"feature {largest} is {spread.mean[largest]:.4g} +- {spread.std[largest]:.3g}, feature {smallest} "
        f"{spread.mean[smallest]:.4g} +- {spread.std[smallest]:.3g}; feature {largest} alone makes up {100 * share:.3g} % of what "
        "the first layer is given",
        expected=f"features of like size: the largest less than {GIANT_TO_SMALLEST:g} times the spread of the smallest",
        summary=f"features differ in scale by a factor of {ratio:.2g}: feature {largest} drowns the others",
        numbers={"ratio": ratio, "largest": size[largest], "smallest": spread.std[smallest]},
        near=_near_giants(entry),
        causes=("columns in different units (euros, years, shares) are given as they are",),
        remedies=(
            Remedy(
                text="standardise every column with the mean and deviation of the training set",
                code="x = (x - x_train.mean(0)) / x_train.std(0)",
            ),
        ),
        exhibits=(table(entry, chosen),),
    )


def _offset(entry: Entry) -> Verdict | None:
    if entry.normalised:
        return None
    spread = entry.features
    varying = [i for i in range(len(spread)) if spread.std[i] > 0 and not entry.binary[i]]
    if not varying:
        return None
    ratios = {i: abs(spread.mean[i]) / spread.std[i] for i in varying}
    far = [i for i in varying if ratios[i] > OFFSET and abs(spread.mean[i]) > FAR]
    lost = [i for i in varying if ratios[i] > LOST and abs(spread.mean[i]) > NOTICEABLE]
    moved = far if 2 * len(far) > len(varying) else lost
    if 2 * len(moved) <= len(varying):
        return None
    middle = median(ratios[i] for i in varying)
    one = max(moved, key=ratios.__getitem__)
    return warned(
        f"{len(moved)} of {len(varying)} features vary by little around a large mean, e.g. feature {one}: "
        f"{spread.mean[one]:.4g} +- {spread.std[one]:.3g}; the median of mean / deviation is {middle:.3g}",
        expected=f"means of less than {OFFSET:g} standard deviations",
        summary=f"the input is not centred: its mean is {middle:.2g} times its standard deviation",
        numbers={"mean_to_std": middle},
        causes=(
            "the mean was not subtracted, or another one was",
            "the values were scaled twice before the mean was taken off",
        ),
        remedies=(
            Remedy(
                text="subtract the mean of the training set and divide by its standard deviation",
                code="x = (x - x_train.mean(0)) / x_train.std(0)",
            ),
        ),
        exhibits=(table(entry, varying),),
    )


def _large(entry: Entry) -> Verdict | None:
    if entry.normalised or entry.rms < LARGE:
        return None
    return warned(
        f"values from {entry.low:.4g} to {entry.high:.4g}, mean {entry.mean:.4g}, standard deviation {entry.std:.4g}",
        expected="values of about the size of one",
        summary=f"the network is given large numbers: a typical value is {entry.rms:.3g}",
        numbers={"mean": entry.mean, "std": entry.std},
        near=_near_large(entry),
        causes=("the values are in the unit they were recorded in",),
        remedies=(
            Remedy(
                text="standardise with the mean and deviation of the training set, or put a BatchNorm first",
                code="x = (x - x_train.mean()) / x_train.std()",
            ),
        ),
    )


def _tiny(entry: Entry) -> Verdict | None:
    size = max(abs(entry.low), abs(entry.high))
    if entry.normalised or not 0 < size < TINY or entry.std > TINY_SPREAD:
        return None
    return warned(
        f"values from {entry.low:.2g} to {entry.high:.2g}, standard deviation {entry.std:.2g}",
        expected="values of about the size of one",
        summary=f"the network is given tiny numbers: the largest is {size:.2g}",
        numbers={"mean": entry.mean, "std": entry.std},
        causes=("the values were divided once too often", "the values are in a unit that is too large for them"),
        remedies=(
            Remedy(
                text="standardise with the mean and deviation of the training set",
                code="x = (x - x_train.mean()) / x_train.std()",
            ),
        ),
    )


def _against_training(entry: Entry) -> Verdict | None:
    """A trained network's first BatchNorm knows what its input was like."""
    if math.isnan(entry.ratio) or (1 / VARIANCE < entry.ratio < VARIANCE and entry.shift < SHIFT):
        return None
    return warned(
        f"behind `{entry.layer}` the variance is {entry.ratio:.2g} times, and the mean {entry.shift:.2g} deviations away from, "
        f"what its BatchNorm was trained with; its input is {entry.mean:.3g} +- {entry.std:.3g}",
        expected=f"a variance within a factor of {VARIANCE:g} and a mean within {SHIFT:g} deviations of those in training",
        summary="the pretrained network is given inputs of another scale than it was trained with",
        numbers={"variance_ratio": entry.ratio, "shift": entry.shift},
        causes=("the mean and deviation that belong to the pretrained weights are not applied, or others are",),
        remedies=(
            Remedy(
                text="use the preprocessing the weights were trained with",
                code="transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet",
            ),
        ),
    )


def wrong_axis(entry: Entry, seen: InputStatistics) -> Verdict | None:
    """Standardised at every position of an axis that is not the features', and not along theirs."""
    if entry.changed or len(seen.shape) < 2:
        return None
    own = 1 if entry.kind == "conv" else len(seen.shape)
    axes = dict(seen.axes)
    if own not in axes or len(axes[own]) < 2:
        return None
    channels = axes[own]
    off = [
        i for i in range(len(channels)) if abs(channels.mean[i]) > OFF or not RANGE[0] <= channels.std[i] <= RANGE[1]
    ]
    if not off:
        return None
    for axis, spread in axes.items():
        exact = all(abs(m) < EXACT and abs(s - 1) < EXACT for m, s in zip(spread.mean, spread.std, strict=True))
        if axis == own or len(spread) < 3 or not exact:
            continue
        i = max(off, key=lambda i: abs(channels.mean[i]))
        return warned(
            f"every position of axis {axis} has mean 0 and deviation 1, but channel {i} (axis {own}) is "
            f"{channels.mean[i]:.3g} +- {channels.std[i]:.3g}",
            expected=f"mean 0 and deviation 1 in every channel (axis {own})",
            summary=f"the input was standardised along axis {axis}, not along its channels (axis {own})",
            numbers={"axis": float(axis), "channel_mean": channels.mean[i], "channel_std": channels.std[i]},
            causes=("mean and deviation were taken over the wrong dimensions",),
            remedies=(
                Remedy(
                    text=f"take mean and deviation over all axes but {own}",
                    code=f"dims = [d for d in range(x.ndim) if d != {own}]\n"
                    "x = (x - x.mean(dims, keepdim=True)) / x.std(dims, keepdim=True)",
                ),
            ),
        )
    return None


def table(entry: Entry, chosen: list[int]) -> Table:
    """The largest features and the smallest ones."""
    spread = entry.features
    order = sorted(chosen, key=lambda i: -math.hypot(spread.mean[i], spread.std[i]))
    shown = order if len(order) <= ROWS else [*order[: ROWS // 2], *order[-(ROWS // 2) :]]
    return Table(
        title="What the first layer is given, by feature",
        columns=("feature", "mean", "deviation", "smallest", "largest"),
        rows=tuple(
            (str(i), *(f"{column[i]:.4g}" for column in (spread.mean, spread.std, spread.low, spread.high)))
            for i in shown
        ),
    )
