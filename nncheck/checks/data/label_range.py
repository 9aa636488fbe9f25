"""The labels are not what the loss is defined for, or not what the network has outputs for.

What it does
    Takes the targets of the losses that are really called, with their options, and the same tensor over the whole training set:
    values outside the loss's domain, labels that are all the same, classes that never come, that are ignored or that nobody
    asked for, rows of soft targets that are no distribution, the blank among CTC's labels, measurements cut to whole numbers.
Why it matters
    Most losses accept such labels without a word. The loss then has no lowest value, a class is never learned, or an output
    learns only that it is never right.
How to fix
    Code the labels as the loss wants them: 0 to C-1 for cross-entropy, 0 and 1 for BCE, floats for a regression. Give the last
    layer one output for each label. Choose an `ignore_index` that is no class (-100).
Known limits
    Classes missing from the middle are not judged, nor is anything in losses written by hand. A rare class may be missing by
    chance: that one is missing is only said where all others come ten times or more.
Source
    Humbatova et al., "Taxonomy of Real Faults in Deep Learning Systems" (2020): wrong labels; PyTorch, documentation of the losses.
"""

import math

from nncheck.checks.data._label_domain import distribution, domain, exclusive, same_everywhere, truncated
from nncheck.probes.loss_targets import CtcTarget, LossTarget, LossTargets
from nncheck.probes.training_data import TrainingData
from nncheck.registry import check
from nncheck.survey.labels import TargetStatistics
from nncheck.survey.survey import Survey
from nncheck.verdict import Bars, Remedy, Stage, Verdict, failed, passed, skipped, warned

CLASSES = ("cross-entropy", "nll", "multi-margin")
# If the rarest other class came ten times, an equally rare one is missing by chance once in e^10 = 22,000 times.
OFTEN = 10
# A head of more than e times the classes starts one nat too high (ln of the ratio), as loss-at-init counts it.
FAR_TOO_WIDE = math.e
# More of a map than this is no void: it is most of the task. Between the words of a sentence, more than this is a marker.
MOST = 0.5
# Fewer gaps inside sequences than this may be places without a label.
FEW = 0.05
BARS = 40


@check(stage=Stage.DATA, after=("forward-pass",), part="train_loader")
def label_range(losses: LossTargets, data: TrainingData) -> Verdict:
    """Judge every loss's targets, the plainest fault first."""
    for ctc in losses.ctc:
        if ctc.blanks:
            return _blank(ctc)
    # What a step makes up itself (ones for a discriminator, positions for a contrastive loss) is not the data's.
    judged = [call for call in losses.calls if call.roots]
    survey = data.survey
    for call in judged:
        seen = survey.labels(call.own) if call.own else None
        found = domain(call, seen) or distribution(call, seen) or truncated(call, seen) or exclusive(call, seen)
        if found is None and seen is not None:
            found = (
                _outside(call, seen)
                or same_everywhere(call, seen, survey.coverage)
                or _ignored(call, seen, losses.vocabulary)
            )
            found = found or _not_counted(call, seen, survey) or _missing(call, seen, survey)
        if found is not None:
            return found
    if losses.last_token is not None:
        return _never_ends(losses.last_token, judged)
    if not judged:
        return skipped(
            "no loss of torch's is given labels of the batch"
            if not losses.ctc
            else f"CTC is given {losses.ctc[0].labels} labels, none of them the blank {losses.ctc[0].blank}"
        )
    return _passed(judged[0], survey.labels(judged[0].own), survey)


def _passed(call: LossTarget, seen: TargetStatistics | None, survey: Survey) -> Verdict:
    if seen is not None and seen.counts is not None and len(seen.counts) <= BARS and call.classes:
        labels = [value for value, _ in seen.counts if value != call.ignore_index]
        if labels and not call.soft:
            bars = Bars(
                title="How often each label comes",
                x_label="targets",
                labels=tuple(f"{value:g}" for value, _ in seen.counts),
                values=tuple(float(count) for _, count in seen.counts),
            )
            return passed(
                f"{len(labels)} labels from {labels[0]:g} to {labels[-1]:g} for {call.classes} outputs, over "
                f"{survey.coverage.words}",
                expected=f"labels from 0 to {call.classes - 1}",
                numbers={"labels": float(len(labels)), "classes": float(call.classes)},
                exhibits=(bars,),
            )
    low, high = (seen.low, seen.high) if seen is not None else (call.low, call.high)
    return passed(
        f"targets of {call.kind} run from {low:.4g} to {high:.4g}"
        + (f", over {survey.coverage.words}" if seen is not None else ", in the first batch"),
        numbers={"low": low, "high": high},
    )


def _blank(ctc: CtcTarget) -> Verdict:
    return failed(
        f"{ctc.blanks} of {ctc.labels} labels are {ctc.blank}, the blank of the CTC loss",
        expected="no label equal to the blank",
        summary=f"the CTC blank ({ctc.blank}) is used as a label: the network cannot say it",
        numbers={"blanks": float(ctc.blanks), "labels": float(ctc.labels)},
        places=(ctc.place,),
        causes=("the characters are numbered from 0, where the blank is",),
        remedies=(
            Remedy(
                text="number the characters from 1, and give the head one output more", code="targets = targets + 1"
            ),
            Remedy(text="or make the last class the blank", code=f"nn.CTCLoss(blank={ctc.classes - 1})"),
        ),
    )


def _counts(call: LossTarget, seen: TargetStatistics) -> dict[float, int] | None:
    """How often each label counts, where labels are classes."""
    if call.kind not in CLASSES or call.soft or seen.counts is None or not call.classes:
        return None
    return {value: count for value, count in seen.counts if value != call.ignore_index}


def _outside(call: LossTarget, seen: TargetStatistics) -> Verdict | None:
    counts = _counts(call, seen)
    wrong = {v: n for v, n in (counts or {}).items() if v < 0 or v >= call.classes or v != round(v)}
    if not wrong:
        return None
    value = max(wrong, key=wrong.__getitem__)
    return failed(
        f"{sum(wrong.values())} targets lie outside 0..{call.classes - 1}, e.g. {value:g} ({wrong[value]} times)",
        expected=f"labels from 0 to {call.classes - 1}",
        summary=f"label {value:g} comes in the training set, but the network has outputs for 0 to {call.classes - 1} only",
        numbers={"outside": float(sum(wrong.values())), "label": value},
        places=(call.place,),
        causes=(
            "labels are counted from 1",
            "a value that marks 'nothing' (255, -1) is not given to the loss as ignore_index",
        ),
        remedies=(
            Remedy(text="declare it, if it marks places without a label", code=f"ignore_index={int(value)}"),
            Remedy(text="else number the labels from 0"),
        ),
    )


def _ignored(call: LossTarget, seen: TargetStatistics, vocabulary: int) -> Verdict | None:
    """A class that is told to be ignored: where there is no padding, or in the middle of sequences, or most of a map."""
    index = call.ignore_index
    counts = dict(seen.counts or ())
    if index is None or call.kind not in CLASSES or not 0 <= index < call.classes or not counts.get(index):
        return None
    share = counts[index] / seen.values
    sequence = len(call.shape) == 2
    single = not call.several
    # A model that predicts its own tokens may mark the others with the id of the padding (masked language models).
    inside = sequence and FEW < call.inner < MOST and vocabulary != call.classes
    dense = not sequence and not single and share > MOST
    if not (single or inside or dense):
        return None
    judge = failed if single else warned
    return judge(
        f"{counts[index]} of {seen.values} targets ({100 * share:.3g} %) are {index}, the loss's ignore_index"
        + ("; most of them stand between others" if inside else ""),
        expected="an ignore_index that is no class",
        summary=f"class {index} is never learned: ignore_index={index} leaves {100 * share:.2g} % of the targets out",
        numbers={"ignored": share, "ignore_index": float(index)},
        places=(call.place,),
        causes=(f"ignore_index={index} was taken over from a task in which {index} was padding",),
        remedies=(Remedy(text="ignore a value that is no class", code="ignore_index=-100"),),
    )


def _not_counted(call: LossTarget, seen: TargetStatistics, survey: Survey) -> Verdict | None:
    """Batches in which no target counts."""
    if call.ignore_index is None or call.reduction != "mean":
        return None
    empty = dict(seen.one_value_batches).get(call.ignore_index, 0)
    if not empty:
        return None
    return failed(
        f"{empty} of {survey.coverage.batches} batches have no target other than {call.ignore_index}",
        expected="a target that counts in every batch",
        summary=f"in {empty} of {survey.coverage.batches} batches every target is ignored: their loss is NaN",
        numbers={"empty_batches": float(empty)},
        places=(call.place,),
        causes=("the mean over no targets is 0 / 0", "prompts are cut before their answer begins"),
        remedies=(
            Remedy(text="leave samples without a target out of the data set"),
            Remedy(
                text="or divide a sum by the number that counts",
                code=f"loss = F.cross_entropy(x, y, reduction='sum') / (y != {call.ignore_index}).sum().clamp(min=1)",
            ),
        ),
    )


def _missing(call: LossTarget, seen: TargetStatistics, survey: Survey) -> Verdict | None:
    """Outputs without labels: the first or the last one, or more than half."""
    counts = _counts(call, seen)
    if not counts or call.several or not survey.coverage.complete or call.classes < 3 or len(counts) < 2:
        return None
    rarest = min(counts.values())
    present = sorted(int(value) for value in counts)
    if rarest < OFTEN or present != list(range(present[0], present[-1] + 1)):
        return None
    said = f"labels {present[0]} to {present[-1]}, each at least {rarest} times in {survey.coverage.samples} samples"
    numbers = {"classes": float(call.classes), "labels": float(len(present))}
    if present[0] == 1 and present[-1] == call.classes - 1 and call.ignore_index != 0:
        return warned(
            f"{said}, for {call.classes} outputs",
            expected=f"labels from 0 to {call.classes - 2}, and as many outputs",
            summary=f"label 0 never comes: labels are counted from 1 for {call.classes} outputs",
            numbers=numbers,
            places=(call.place,),
            causes=("the labels are numbered from 1, and the head was given one output more to make room",),
            remedies=(
                Remedy(
                    text=f"count from 0, and give the head {call.classes - 1} outputs",
                    code="y = y - 1",
                ),
            ),
        )
    if present[0] == 0 and call.classes >= 2 * len(present):
        judge = failed if call.classes > FAR_TOO_WIDE * len(present) else warned
        return judge(
            f"{said}, for {call.classes} outputs",
            expected=f"{len(present)} outputs",
            summary=f"the head has {call.classes} outputs, the labels are {len(present)}",
            numbers=numbers,
            places=(call.place,),
            causes=("the head was kept from another data set", "the number of classes counts something else"),
            remedies=(
                Remedy(text=f"give the last layer {len(present)} outputs", code=f"num_classes = {len(present)}"),
            ),
        )
    return None


def _never_ends(token: int, judged: list[LossTarget]) -> Verdict:
    return warned(
        f"id {token} is the last real token of most sequences, and no label asks for it",
        expected="the end of a sequence among the labels",
        summary=f"the end token ({token}) is masked out of the labels with the padding: the model never learns to stop",
        numbers={"token": float(token)},
        places=tuple(call.place for call in judged[:1]),
        causes=("the padding token was set to the end token, and every one of them became -100",),
        remedies=(
            Remedy(
                text="mask the labels by the attention mask, not by the id", code="labels[attention_mask == 0] = -100"
            ),
            Remedy(text="or give the tokenizer a padding token of its own"),
        ),
    )
