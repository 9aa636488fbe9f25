"""Validation samples, or the target itself, are among what the network trains on.

What it does
    Compares what the training and the validation loader draw: the objects, the indices into one data set, exact inputs, windows
    that share steps of one series, and nearest neighbours, each against how often that happens among training samples. Looks for
    an input column that is the target.
Why it matters
    The validation score then says how well samples are remembered, not how well the network generalises. Early stopping, the
    choice of a rate and every reported number rest on it.
How to fix
    Split first, then copy, augment, oversample or cut windows. Split a series in time, or by series. Split by patient or source,
    not by sample. Give indices without overlap: `random_split`, or one permutation cut in two. Drop the column that holds the
    answer.
Known limits
    Samples of one source that do not look alike are not found. Where inputs take few values and meet by chance, only more
    meetings than among training samples count. A random augmentation hides exact copies, but not shared indices.
Source
    Kapoor and Narayanan, "Leakage and the reproducibility crisis in machine-learning-based science" (2023). Barz and Denzler,
    "Do We Train on Test Data? Purging CIFAR of Near-Duplicates" (2020).
"""

from collections.abc import Callable
from typing import Any

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.probes.split_overlap import SplitOverlap
from nncheck.probes.target_copies import TargetCopies
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped, warned

# Shares of validation inputs that are training inputs: above a tenth, three times what daily benchmarks hold, lies a mistake in
# splitting; between, it is worth a look. Fewer than three may be chance.
FAIL, WARN, LEAST = 0.1, 0.01, 3
# Standard errors by which the share must exceed that among training samples.
ERRORS = 4.0
# A series cut in two in time leaves windows at the cut that overlap: as many as a window has steps, on both sides of it. Cut at
# random, nearly all do.
WINDOWS = 0.3
# Nearest neighbours: for data on a line one in six lies less than a twentieth as far as the fifth, on a plane 1 %, and fewer in
# more dimensions. Where more than half of the samples have one, and training samples among themselves do not, they are copies.
NEAR = 0.5
# A column explains all but this of the target: float32's rounding after a change of unit leaves less; measurements leave more.
LEFT = 1e-7
# A column whose values within a class spread this little of its whole: correlation 0.999 with the class.
LEFT_IN_CLASS = 2e-3


@check(stage=Stage.DATA, consequence_of=("validation-data",), part="val_loader")
def train_val_leakage(split: SplitOverlap, copies: TargetCopies) -> Verdict:
    """Judge certain overlaps first."""
    measured = _measured(split, copies)
    if not split.there and not copies.samples:
        return skipped("there is no validation loader, and no table of inputs with a target of one number")
    details: dict[str, Any] = {
        "numbers": {
            "validation": float(split.val),
            "validation_in_training": float(split.seen),
            "shared_items": float(max(0, split.shared_items)),
            "columns": float(copies.columns),
        }
    }
    found = _items(split) or _inputs(split) or _windows(split) or _neighbours(split) or _column(copies)
    expected = "validation samples that training never sees, and inputs without the answer"
    nearly = _near(split) if found is None or found in (_inputs(split), _neighbours(split)) else ""
    counted = {} if split.complete else {"validation_in_training": split.val * _share(split).error}
    if found is None:
        return uncertain(passed(measured, expected=expected, **details), counted, nearly)
    status, said, summary, causes, remedy = found
    verdict = status(
        f"{said}; {measured}" if said else measured,
        expected=expected,
        summary=summary,
        causes=causes,
        remedies=(remedy,),
        **details,
    )
    return uncertain(verdict, counted, nearly)


def _share(split: SplitOverlap, limit: float = WARN) -> Edge:
    """The share of `_inputs`: where both sets were seen whole, a count."""
    share = split.seen / split.val if split.val else 0.0
    error = 0.0 if split.complete else share_error(share, split.val)
    return Edge(
        name="the share of validation inputs among those of training",
        value=share - split.within,
        limit=limit,
        error=error,
    )


def _near(split: SplitOverlap) -> str:
    """Of the shares that are known from a part of the samples only: neighbours are sought for `asked` of them."""
    error = share_error(split.near, split.asked) if 0 < split.asked < split.val else 0.0
    close = Edge(name="the share of near copies", value=split.near, limit=NEAR, error=error)
    counts = split.asked >= 20 and split.near_within < split.near / 2
    known = split.seen >= LEAST
    said = near(_share(split)) or near(_share(split, FAIL)) if known else ""
    return said or (near(close) if counts else "")


def _measured(split: SplitOverlap, copies: TargetCopies) -> str:
    parts = []
    if split.there:
        seen = "" if split.complete else " of the samples seen"
        parts.append(
            f"{split.seen:,} of {split.val:,} validation inputs are among {split.train:,} training inputs{seen}"
        )
        if split.within > 0:
            parts.append(f"{split.within:.1%} of the training inputs come more than once")
    else:
        parts.append("no validation loader is given")
    if copies.samples:
        parts.append(f"none of {copies.columns} input columns is the target" if _column(copies) is None else "")
    return "; ".join(part for part in parts if part)


_Found = tuple[Callable[..., Verdict], str, str, tuple[str, ...], Remedy]
_SPLIT = Remedy(text="split once, without overlap", code="train_set, val_set = random_split(data, [0.8, 0.2])")


def _items(split: SplitOverlap) -> _Found | None:
    if split.same and split.there:
        what = "loader" if split.same == "loader" else "data set"
        return (
            failed,
            "",
            f"training and validation use the same {what}: every validation sample is trained on",
            ("one part was bound under both names, or the split is not used",),
            _SPLIT,
        )
    share = split.shared_items / split.val_items if split.val_items > 0 else 0.0
    if share <= WARN or split.shared_items < LEAST:
        return None
    return (
        failed if share > FAIL else warned,
        f"{split.shared_items:,} of {split.val_items:,} validation items are drawn in training too",
        f"{share:.0%} of the validation items are drawn in training too: the indices overlap",
        ("the two splits were shuffled with different seeds, or their ranges overlap",),
        _SPLIT,
    )


def _inputs(split: SplitOverlap) -> _Found | None:
    share = split.seen / split.val if split.val else 0.0
    pooled = (split.seen + split.within * split.train) / max(1, split.val + split.train)
    error = (pooled * (1 - pooled) * (1 / max(1, split.val) + 1 / max(1, split.train))) ** 0.5
    excess = share - split.within
    if split.seen < LEAST or excess <= WARN or excess <= ERRORS * error:
        return None
    return (
        failed if excess > FAIL else warned,
        "",
        f"{share:.0%} of the validation inputs are training inputs, bit for bit",
        (
            "copies were made, or windows and samples were drawn, before the split",
            "the splits' indices or files overlap",
        ),
        Remedy(text="drop copies first, then split", code="np.unique(x, axis=0, return_index=True)"),
    )


def _windows(split: SplitOverlap) -> _Found | None:
    if split.windows <= max(WINDOWS * split.val, 2 * split.steps):
        return None
    return (
        warned,
        f"{split.windows:,} of {split.val:,} validation windows share {split.block} or more steps with training windows",
        f"{split.windows / split.val:.0%} of the validation windows overlap with training windows",
        ("windows of one series were split at random: neighbours share most of their steps, and targets too",),
        Remedy(text="cut the series in time first, then make windows of each part", code="x[:cut], x[cut:]"),
    )


def _neighbours(split: SplitOverlap) -> _Found | None:
    if split.near <= NEAR or split.near_within >= split.near / 2 or split.asked < 20:
        return None
    return (
        warned,
        f"{split.near:.0%} of {split.asked} validation inputs have a training input less than a twentieth as far as the fifth",
        f"{split.near:.0%} of the validation inputs are nearly equal to a training input",
        ("copies with a little noise were made before the split", "several shots of one scene fell on both sides"),
        Remedy(text="split by source first, then augment the training part"),
    )


def _column(copies: TargetCopies) -> _Found | None:
    if not copies.left:
        return None
    least = min(copies.left)
    if copies.kind == "numbers":
        if not least < LEFT:
            return None
        kind = "equal to the target but for its unit"
    else:
        # In a table of codes and flags a column may decide the class by design.
        if not least < LEFT_IN_CLASS or copies.measured < 2 or copies.series:
            return None
        kind = "the class, or a code of it"
    column = copies.left.index(least)
    where = f"column {column}" + (" of the last step" if copies.series else "")
    return (
        failed,
        f"over {copies.samples:,} samples, {where} is {kind}: {least:.1g} of the variance is left unexplained",
        f"the target is among the inputs: {where} of {copies.columns} is {kind}",
        (
            "the target's column was not taken out of the table"
            if not copies.series
            else "the window holds the step to be predicted",
        ),
        Remedy(
            text="leave the target out of the inputs" if not copies.series else "end the window one step earlier",
            code='x = table.drop(columns="target")' if not copies.series else "x, y = series[i : i + n], series[i + n]",
        ),
    )
