"""Labels a loss is not defined for, and labels that say nothing: part of label-range."""

from __future__ import annotations

from nncheck.probes.loss_targets import LossTarget
from nncheck.survey.labels import TargetStatistics
from nncheck.survey.walk import Coverage
from nncheck.verdict import Remedy, Verdict, failed, warned

BINARY = ("bce", "bce-with-logits", "multilabel-soft-margin")
SIGNED = ("soft-margin", "hinge-embedding", "margin-ranking")
REGRESSION = ("mse", "l1", "smooth-l1", "huber")
# Rows of float32 probabilities sum to one within rounding.
SUM_TOLERANCE = 1e-3
# Fewer samples than this may well share a label.
FEWEST = 32
# Most of the measurements have decimals; whole ones alone do not say that any were cut.
DECIMALS = 0.5
# A standardised measurement cut to a whole number is one of -3..3, and 0 in 68 % of cases; scores and counts have more values.
CUT_VALUES, CUT_STD = 9, 1.5
# Shares of a normal distribution from -2 to -1, -1 to 1 and 1 to 2, which become -1, 0 and 1; data are only nearly normal. Rounded
# ones are 0 in 38 %, scores and ratings have other shares still.
CUT_SHARES = {-1.0: 0.136, 0.0: 0.683, 1.0: 0.136}
CUT_TOLERANCE = 0.05
# In so many rows at least, several labels would come together somewhere.
ROWS = 200


def domain(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """Targets outside what the loss is defined for."""
    low, high = (seen.low, seen.high) if seen is not None else (call.low, call.high)
    said = f"targets of {call.kind} run from {low:.4g} to {high:.4g}"
    numbers = {"low": low, "high": high}
    if call.kind in BINARY and (low < 0 or high > 1):
        code = "target = (target > 0).float()" if high <= 1 else "target = target.float() / target.max()"
        return failed(
            said,
            expected="targets from 0 to 1",
            summary=f"{call.kind} is given targets outside [0, 1] ({low:.4g} to {high:.4g}): it has no lowest value",
            numbers=numbers,
            places=(call.place,),
            causes=("labels are coded as -1 and 1, as 0 and 255, or as numbers of classes",),
            remedies=(Remedy(text="code the labels as 0 and 1", code=code),),
        )
    if call.kind in SIGNED and call.distinct and not set(call.distinct) <= {-1.0, 1.0}:
        return failed(
            f"{said}: {', '.join(f'{v:g}' for v in call.distinct[:6])}",
            expected="targets of -1 and 1",
            summary=f"{call.kind} wants targets of -1 and 1, and is given {', '.join(f'{v:g}' for v in call.distinct[:6])}",
            numbers=numbers,
            places=(call.place,),
            causes=("labels are coded as 0 and 1",),
            remedies=(Remedy(text="code the labels as -1 and 1", code="target = 2 * target - 1"),),
        )
    if call.kind == "poisson-nll" and low < 0:
        return failed(
            said,
            expected="counts: 0 or more",
            summary=f"poisson-nll is given negative targets (down to {low:.4g}): it has no lowest value",
            numbers=numbers,
            places=(call.place,),
            causes=("the counts were standardised",),
            remedies=(Remedy(text="give the counts as they are, or use nn.MSELoss for standardised ones"),),
        )
    return None


def distribution(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """Soft targets whose rows are no distributions over the classes."""
    if call.kind != "cross-entropy" or not call.soft:
        return None
    if call.all_zero == 1:
        return failed(
            "every row of the soft targets is zero",
            expected="rows that sum to 1",
            summary="the one-hot labels are all zero: no sample has a class",
            numbers={"all_zero": 1.0},
            places=(call.place,),
            causes=("labels were joined or looked up by a key that does not match",),
            remedies=(Remedy(text="make the targets of class numbers", code="F.one_hot(y, num_classes).float()"),),
        )
    if abs(call.high_sum - 1) <= SUM_TOLERANCE:
        return _empty_rows(call, seen)
    many = abs(call.high_sum - round(call.high_sum)) < SUM_TOLERANCE and call.high_sum > 1.5 and call.high <= 1
    return failed(
        f"{100 * (1 - call.to_one - call.all_zero):.3g} % of the rows do not sum to 1; sums run from {call.low_sum:.4g} to "
        f"{call.high_sum:.4g}",
        expected="rows that sum to 1",
        summary="cross-entropy is given several labels for a sample: softmax lets them compete"
        if many
        else f"cross-entropy is given targets that are no distribution: sums up to {call.high_sum:.4g}",
        numbers={"low_sum": call.low_sum, "high_sum": call.high_sum, "to_one": call.to_one},
        places=(call.place,),
        causes=(
            "a multi-label task is trained with the loss of one label a sample"
            if many
            else "the targets are scaled, or mixed twice",
        ),
        remedies=(
            Remedy(text="ask for each label by itself", code="loss_fn = nn.BCEWithLogitsLoss()")
            if many
            else Remedy(text="divide by the sum", code="target = target / target.sum(1, keepdim=True)"),
        ),
    )


def _empty_rows(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """One-hot rows that are all zero, beside a class that no row asks for: its name was not found."""
    if seen is None or seen.rows is None or seen.whole < 1 or not 0 < seen.rows.all_zero < 1:
        return None
    empty = [i for i, mean in enumerate(seen.columns.mean) if mean == 0]
    if not empty:
        return None
    share = seen.rows.all_zero
    return failed(
        f"{100 * share:.3g} % of the one-hot rows are all zero, and no row asks for class {empty[0]}",
        expected="a class for every sample",
        summary=f"{100 * share:.3g} % of the samples have no class: class {empty[0]} is never asked for",
        numbers={"all_zero": share, "class": float(empty[0])},
        places=(call.place,),
        causes=("the name of a class is spelled in another way where the labels are made",),
        remedies=(
            Remedy(text="look the classes up in a dict that raises for an unknown name", code="y = index[name]"),
        ),
    )


def exclusive(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """Exactly one of several labels a sample, each asked for by itself."""
    if call.kind not in ("bce", "bce-with-logits") or seen is None or seen.rows is None or len(seen.shape) != 1:
        return None
    columns, rows = len(seen.columns), seen.rows
    if columns < 3 or seen.whole < 1 or rows.number < ROWS or rows.to_one != 1 or rows.all_zero:
        return None
    return warned(
        f"each of {rows.number} rows of {columns} labels has exactly one that is on",
        expected="rows with several labels or none, or a loss over all classes at once",
        summary=f"the {columns} classes exclude each other, but {call.kind} asks for each by itself",
        numbers={"rows": float(rows.number), "classes": float(columns)},
        places=(call.place,),
        causes=("one-hot labels are given to the loss for several labels a sample",),
        remedies=(Remedy(text="let the classes compete", code="loss = F.cross_entropy(output, target.argmax(1))"),),
    )


def truncated(call: LossTarget, seen: TargetStatistics | None) -> Verdict | None:
    """A regression whose targets were cut to whole numbers."""
    if call.kind not in REGRESSION:
        return None
    cut = call.whole == 1 and call.root_whole < 1 - DECIMALS
    few = call.distinct and len(call.distinct) <= CUT_VALUES and call.low < 0 < call.high and call.std < CUT_STD
    if not cut and not (few and (call.integer or _cut_normal(seen))):
        return None
    values = ", ".join(f"{v:g}" for v in call.distinct[:CUT_VALUES])
    judge = failed if cut else warned
    return judge(
        f"{call.kind} is given {call.dtype} targets {values}"
        + (f"; {100 * (1 - call.root_whole):.0f} % of the values they are made of have decimals" if cut else ""),
        expected="float targets with their decimals",
        summary=f"the targets of a regression are cut to whole numbers ({values})",
        numbers={"whole": call.whole, "std": call.std},
        places=(call.place,),
        causes=("`.long()` or `.int()` was called on them, as class labels need it",),
        remedies=(Remedy(text="keep them as floats", code="y = torch.as_tensor(y, dtype=torch.float32)"),),
    )


def _cut_normal(seen: TargetStatistics | None) -> bool:
    """Whether whole numbers come as often as they do where a standardised measurement lost its decimals."""
    if seen is None or seen.counts is None or seen.whole < 1 or len(seen.counts) <= len(CUT_SHARES):
        return False
    counts = dict(seen.counts)
    return all(abs(counts.get(v, 0) / seen.values - share) < CUT_TOLERANCE for v, share in CUT_SHARES.items())


def same_everywhere(call: LossTarget, seen: TargetStatistics, coverage: Coverage) -> Verdict | None:
    """One target for all samples."""
    counted = [(v, n) for v, n in seen.counts or () if v != call.ignore_index]
    rows_differ = any(std > 0 for std in seen.columns.std) if call.soft else len(counted) != 1
    if rows_differ or seen.samples < FEWEST or not coverage.complete or not counted:
        return None
    value = counted[0][0]
    return failed(
        f"all {sum(n for _, n in counted)} targets of {coverage.samples} samples are {value:g}"
        if not call.soft
        else f"all {coverage.samples} rows of targets are the same",
        expected="at least two different targets",
        summary=f"every label is {value:g}: there is nothing to tell apart"
        if not call.soft
        else "every sample has the same soft target: there is nothing to tell apart",
        numbers={"label": value, "samples": float(coverage.samples)},
        places=(call.place,),
        causes=(
            "labels were joined, sorted or looked up wrongly, or a filter left one class",
            "values between 0 and 1 were cast to integers",
        ),
        remedies=(
            Remedy(text="print a few rows of the raw data beside the labels the data set gives, and mend the join"),
        ),
    )
