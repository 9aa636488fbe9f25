"""Losses that cannot mean what they are given, whatever their value: part of loss-at-init."""

from __future__ import annotations

import math

from nncheck.losses.starting import StartingLoss
from nncheck.probes.initial_loss import InitialLoss, Use, is_sum
from nncheck.probes.label_baseline import LabelBaseline
from nncheck.probes.loss_inputs import LossInput
from nncheck.verdict import Remedy, Verdict, failed, warned

# Rows of log-probabilities sum to one, or to less where some outcomes are left out; raw scores start near ln C.
LOG_SUM = 0.05
# Soft targets are distributions, or all zero where a sample is masked out.
TARGET_SUM = 1e-3
# Shares of counted predictions agree with the loss's factor up to float32's rounding.
SAME = 1e-3
# A loss that a few updates raise by so much, and those with the mean's gradient do not, has a rate meant for the mean.
RISEN, NOT_RISEN = 1.2, 1.05
# A label seen this often is no accident: were others as likely, some would be seen too.
OFTEN = 5


def limits(expected: float) -> tuple[float, float]:
    """(warn, fail): how far a loss may lie from its value at chance. Measured: sound networks start within +0.44 at
    C = 1000 (resnet50), small ones within +0.13 (60 seeds of a two-layer network)."""
    return max(0.5, 0.1 * abs(expected)), max(1.0, 0.5 * abs(expected))


def misuse(level: StartingLoss, item: LossInput | None) -> Verdict | None:
    """A finding if the loss is not given what it is defined for."""
    measured = f"{level.kind} starts at {level.loss:.4g} per prediction"
    low, high = level.target_range
    if (
        level.kind in ("cross-entropy", "nll", "bce-with-logits")  # a squared error is the same either way round
        and level.target_connected
        and not level.connected
    ):
        return failed(
            measured + "; its first argument has no gradient and its second has",
            expected="predictions first, targets second",
            summary=f"the arguments of {level.kind} are exchanged: predictions are given as targets",
            places=(level.place,),
            causes=("the loss is called as (target, output)",),
            remedies=(Remedy(text="exchange the arguments", code="loss = loss_fn(output, target)"),),
        )
    if level.kind == "cross-entropy" and level.classes == 1:
        return failed(
            f"cross-entropy over one class: exactly {level.loss:.4g}, whatever the output",
            expected="two or more classes",
            summary="cross-entropy over a single output is always 0: nothing can be learned",
            numbers={"loss": level.loss, "classes": 1.0},
            places=(level.place,),
            causes=("softmax over one output is 1",),
            remedies=(
                Remedy(
                    text="use BCE-with-logits for one output",
                    code="nn.BCEWithLogitsLoss()(output.squeeze(1), y.float())",
                ),
                Remedy(text="or give the head one output for each class"),
            ),
        )
    if level.kind in ("bce", "bce-with-logits") and (low < 0 or high > 1):
        return failed(
            f"{measured}; targets run from {low:.4g} to {high:.4g}",
            expected="targets from 0 to 1",
            summary=f"{level.kind} is given targets outside [0, 1]: it has no lowest value",
            numbers={"loss": level.loss, "lowest_target": low, "highest_target": high},
            places=(level.place,),
            causes=("labels are coded as -1 and 1, or as numbers of classes",),
            remedies=(Remedy(text="code the labels as 0 and 1", code="target = (target > 0).float()"),),
        )
    if item is not None and level.kind in ("nll", "kl-div"):
        found = _not_log_probabilities(level, item, measured)
        if found is not None:
            return found
    sums = level.target_sums
    if level.kind == "cross-entropy" and sums is not None and abs(sums[1] - 1) > TARGET_SUM:
        many = abs(sums[1] - round(sums[1])) < TARGET_SUM and sums[1] > 1.5
        text = "several labels for a sample" if many else "targets that are no distribution over the classes"
        return failed(
            f"{measured}; the sums of the targets run from {sums[0]:.4g} to {sums[1]:.4g}",
            expected="targets that sum to 1",
            summary=f"cross-entropy is given {text}: sums up to {sums[1]:.4g}",
            numbers={"loss": level.loss, "largest_sum": sums[1]},
            places=(level.place,),
            causes=(
                "a multi-label task, in which softmax lets the labels compete"
                if many
                else "targets are scaled or mixed twice",
            ),
            remedies=(
                Remedy(text="use BCE-with-logits for several labels", code="loss_fn = nn.BCEWithLogitsLoss()")
                if many
                else Remedy(
                    text="divide the targets by their sum", code="target = target / target.sum(1, keepdim=True)"
                ),
            ),
        )
    return None


def _not_log_probabilities(level: StartingLoss, item: LossInput, measured: str) -> Verdict | None:
    probabilities = item.low >= 0 and item.high <= 1.0001 and item.row_sums_off < 1e-3
    if level.kind == "nll" and probabilities:
        return None  # double-softmax says so
    if level.kind == "kl-div" and not (probabilities or (item.log_sums_high > LOG_SUM and level.loss < 0)):
        return None
    wrong_dim = item.made_by is not None and item.made_by.name == "log_softmax" and item.log_sums_off > LOG_SUM
    if item.log_sums_high <= LOG_SUM and not wrong_dim:
        return None
    given = (
        "probabilities" if probabilities else "log-probabilities of another dimension" if wrong_dim else "raw scores"
    )
    activation = "torch.log(p)" if probabilities else "F.log_softmax(logits, dim=1)"
    cause = (
        f"log_softmax works along dimension {item.made_by.dim}, not along the classes"
        if wrong_dim and item.made_by is not None
        else f"{level.kind} takes no logarithm and no softmax itself"
    )
    return failed(
        f"{measured}; the sums of its rows' exponentials are up to {_exp(item.log_sums_high)} instead of 1",
        expected="log-probabilities, whose exponentials sum to 1",
        summary=f"{level.kind} is given {given}, not log-probabilities over the classes: its value is no likelihood",
        numbers={"loss": level.loss, "log_sum": item.log_sums_high},
        places=(item.made_by.place, level.place) if wrong_dim and item.made_by is not None else (level.place,),
        causes=(cause,),
        remedies=(
            Remedy(text="give it log-probabilities", code=f"loss = loss_fn({activation}, target)"),
            *([Remedy(text="or use cross-entropy on the raw scores")] if level.kind == "nll" else []),
        ),
    )


def _exp(value: float) -> str:
    return f"e^{value:.3g}"


def misuse_of_value(uses: tuple[Use, ...]) -> Verdict | None:
    """A finding if what is made of a loss's value turns it round for one label, or divides it by its classes."""
    for use in uses:
        label = _rewarded(use)
        if label is not None:
            return _against(use, label)
    for use in uses:
        if _divided(use):
            return _by_classes(use)
    return None


def _rewarded(use: Use) -> int | None:
    """The label whose predictions are all the better for the loss the worse they are, while none of the other's are.

    Signs that do not go with the label are meant: advantages in reinforcement learning, for instance.
    """
    for label in (0, 1):
        whole = use.against[label] == use.of[label] and use.against[1 - label] == 0
        if whole and min(use.of) >= OFTEN:
            return label
    return None


def _against(use: Use, label: int) -> Verdict:
    count, total = use.of[label], sum(use.of)
    return failed(
        f"{count} of {total} predictions, all those with label {label}, count negatively in the final loss; "
        f"the {total - count} with label {1 - label} count positively",
        expected="a loss that rises with that of each prediction",
        summary=f"the loss falls as predictions for label {label} get worse: {use.kind} is weighted by a negative number there",
        numbers={"against": float(count), "predictions": float(total)},
        places=(use.place,),
        causes=(
            "alpha and gamma of a focal loss are exchanged: with alpha = 2 the negatives are weighted by 1 - alpha = -1",
            "the weight of a label is negative",
        ),
        remedies=(
            Remedy(text="keep the weight of every label positive; in a focal loss alpha lies between 0 and 1",
                   code="loss_fn = FocalLoss(alpha=0.25, gamma=2.0)"),
        ),
    )  # fmt: skip


def _divided(use: Use) -> bool:
    """Whether a divergence is averaged over its classes too, and not multiplied by their number again."""
    if use.kind != "kl-div" or use.reduction != "mean" or use.classes < 2 or not math.isfinite(use.weight or math.nan):
        return False
    times = (use.weight or 0.0) / use.classes
    return abs(times - round(times)) > SAME * abs(times) or round(times) == 0


def _by_classes(use: Use) -> Verdict:
    return warned(
        f"kl-div with reduction='mean' divides by the {use.classes} classes too; it is multiplied by {use.weight:.4g}",
        expected="the divergence of a sample, averaged over samples: reduction='batchmean'",
        summary=f"kl-div is {use.classes} times too small: its 'mean' divides by the number of classes too",
        numbers={"classes": float(use.classes), "weight": use.weight or 0.0},
        places=(use.place,),
        causes=("reduction='mean', the default of kl_div, is no divergence (torch warns of it)",),
        remedies=(Remedy(text="average over samples only", code="reduction='batchmean'"),),
    )


def reduction_fault(start: InitialLoss, level: StartingLoss) -> Verdict | None:
    """A finding if the set-up divides by what it should not, or not at all."""
    if len(start.levels) != 1 or len(level.factors) != len(level.kept):
        return None
    kept = sum(level.kept) / len(level.kept)
    by_all = all(abs(f / k - 1) < SAME for f, k in zip(level.factors, level.kept, strict=True))
    if level.reduction == "none" and kept < 1 - SAME and by_all:
        warn, fail = limits(level.expected)
        missing = level.expected * (1 - kept)
        if missing > warn:
            judge = failed if missing > fail else warned
            value = level.loss * kept
            return judge(
                f"the loss is {value:.4g}, {kept:.3g} of the {level.loss:.4g} of a prediction: "
                f"{1 - kept:.0%} of the predictions are left out but divided by",
                expected=f"{level.loss:.4g}, the mean over the predictions that count ({level.expected:.4g} by chance)",
                summary=f"the loss is averaged over predictions that do not count: {kept:.0%} of its value",
                numbers={"loss": value, "per_prediction": level.loss, "kept": kept, "expected": level.expected},
                places=(level.place,),
                causes=("an unreduced loss holds zeros at ignored or masked places, and `.mean()` counts them",),
                remedies=(
                    Remedy(text="divide by the number that counts", code="loss = (losses * mask).sum() / mask.sum()"),
                    Remedy(text="or let the loss reduce: reduction='mean' leaves ignored targets out"),
                ),
            )
    trial = start.summed
    if trial is not None:
        rose = not trial.after <= RISEN * trial.before  # NaN counts as risen
        calm = trial.after_mean <= NOT_RISEN * trial.before
        if rose and calm:
            count = level.factors[0]
            return failed(
                f"the loss is the sum over {count:.0f} predictions ({start.final[0]:.4g}); {trial.updates} updates take it from "
                f"{trial.before:.4g} to {trial.after:.4g} per prediction, with the mean's gradient to {trial.after_mean:.4g}",
                expected="a loss that the same updates do not raise",
                summary=f"the loss is summed over {count:.0f} predictions, but the learning rate suits a mean",
                numbers={"before": trial.before, "after": trial.after, "after_mean": trial.after_mean, "factor": count},
                places=(level.place,),
                causes=("reduction='sum' makes gradients grow with the batch",),
                remedies=(
                    Remedy(text="use the mean", code="reduction='mean'"),
                    Remedy(text=f"or divide the learning rate by {count:.0f}"),
                ),
            )
    return None


def harmless_sum(start: InitialLoss, level: StartingLoss) -> str:
    """What to know of a sum that the optimizer divides out again; "" if there is none. Adam and its kin train all the same."""
    if not (start.adaptive and level.reduction == "sum" and len(start.levels) == 1 and is_sum(level)):
        return ""
    return (
        f"; the final loss is the sum over {level.factors[0]:.0f} predictions, {start.final[0]:.4g}: the optimizer divides by the "
        "gradient's size, so this trains as the mean does, but clipping and another optimizer would see the larger gradient"
    )


def wrong_classes(level: StartingLoss, labels: LabelBaseline) -> Verdict | None:
    """A finding if the head has far more classes than there are labels."""
    if (
        level.kind not in ("cross-entropy", "nll")
        or level.several
        or labels.several
        or level.in_batch
        or labels.classes < 3
    ):
        return None
    seen = labels.largest_label + 1
    contiguous = labels.distinct == seen and labels.rarest >= OFTEN
    if not contiguous or seen < 2 or labels.classes < 2 * seen or not labels.mixed_order:
        return None
    excess = math.log(labels.classes / seen)
    _, fail = limits(math.log(seen))
    judge = failed if excess > fail else warned
    return judge(
        f"{level.kind} over {labels.classes} classes starts at {level.loss:.4g}; the labels of {labels.labels} samples are "
        f"0 to {labels.largest_label}, each seen at least {labels.rarest} times",
        expected=f"ln {seen} = {math.log(seen):.4g} for {seen} classes",
        summary=f"the head has {labels.classes} classes, the labels {seen}: the loss starts {excess:.2f} too high",
        numbers={"loss": level.loss, "classes": float(labels.classes), "labels": float(seen)},
        places=tuple(place for place in (labels.head, level.place) if place is not None),
        causes=("the head was kept from another data set, or counts something else",),
        remedies=(Remedy(text=f"make the head {seen} classes wide", code=labels.head_code(seen)),),
    )
