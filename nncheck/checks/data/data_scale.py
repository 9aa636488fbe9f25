"""The numbers the network is given have the wrong scale, offset or order.

What it does
    Follows the batch to the first layer with parameters, through whatever the data set, the step and the model do to it on the way,
    and measures there: offset and spread in all and by feature, 8-bit values, order of channels and pixels, wrap-around, detail.
    Looks through the training set for blank samples and for an axis that was standardised in place of the channels, compares a
    pretrained network's first BatchNorm with what it was trained with, and a regression's targets with the network's answers.
Why it matters
    Default weights and rates are made for inputs of mean 0 and size 1. Pixels of 0..255 make the first loss twenty times too large;
    a feature in thousands drowns those in tenths; an offset of many deviations leaves ReLU units dead or always on.
How to fix
    Standardise with the training set: `x = (x - x_train.mean(0)) / x_train.std(0)`, for images `x.float() / 255` once, then mean
    and deviation of each channel (of the pretrained weights, where there are any). Move axes with `permute`, never with `reshape`.
    Scale regression targets alike, and the predictions back.
Known limits
    Inputs that go through a normalisation first are not judged, nor flags, counts that are nearly always zero, and what enters an
    embedding. Large images and other channel orders (BGR) cannot be told from right ones.
Source
    LeCun et al., "Efficient BackProp" (1998), section 4.3; Karpathy, "A Recipe for Training Neural Networks" (2019): look at
    what goes into the network.
"""

import dataclasses
import math

from nncheck.checks._near import uncertain
from nncheck.checks.data._scale_of_features import candidates, features, near_features, table, wrong_axis
from nncheck.checks.data._scale_of_images import images, is_bytes, stored, where
from nncheck.checks.data._scale_of_targets import targets
from nncheck.probes.loss_targets import LossTargets
from nncheck.probes.network_input import Entry, NetworkInput
from nncheck.probes.stored_pixels import StoredPixels
from nncheck.probes.training_data import TrainingData
from nncheck.registry import check
from nncheck.survey.features import InputStatistics
from nncheck.verdict import Exhibit, Remedy, Stage, Verdict, passed, skipped, warned

# What takes its input's scale and offset over into its output.
JUDGED = ("linear", "conv", "recurrent")
# Blank samples: more than a thousandth, and more than one; where most are blank, they are meant to be (masks, conditions).
BLANK, MOSTLY = 0.001, 0.5
# So many blank samples with one label between them are no accident but a class.
CLASS = 4
# A sample of fewer values may well be constant.
BLANK_VALUES = 64
# What another seed changes in the extremes, as a part of them (15 examples, 5 seeds each; median over them).
SEEDS_LOW, SEEDS_HIGH = 0.04, 0.14


@check(stage=Stage.DATA, after=("forward-pass", "finite-values"), part="train_loader")
def data_scale(given: NetworkInput, data: TrainingData, losses: LossTargets, pixels: StoredPixels) -> Verdict:
    """Judge what each first layer is given, one after the other."""
    found = stored(pixels) if pixels.items else None
    if found is not None:
        return found
    judged = [entry for entry in given.entries if entry.kind in JUDGED and entry.distinct != 1]
    statistics = {one.name: one for one in data.survey.inputs}
    for entry in judged:
        own = next((statistics[root] for root in entry.roots if root in statistics), None)
        found = images(entry) or features(entry, given.trained) or (wrong_axis(entry, own) if own else None)
        if found is not None:
            return uncertain(_shown(found, entry), _errors(entry))
    for one in data.survey.inputs:
        found = _blank(one, data.survey.coverage.words)
        if found is not None:
            return found
    for call in losses.calls:
        found = targets(call, data.survey.labels(call.own) if call.own else None)
        if found is not None:
            return found
    if not judged:
        norms = [entry for entry in given.entries if entry.kind == "norm"]
        if norms:
            return passed(f"the input goes into a normalisation first (`{norms[0].layer}`): {_words(norms[0])}")
        return skipped("no layer multiplies the input's numbers: it goes into an embedding or is compared as it is")
    first = judged[0]
    shown = [table(first, chosen)] if len(chosen := candidates(first)) > 1 and len(first.shape) <= 3 else []
    unscaled = "; unscaled, but a normalisation follows" if is_bytes(first) else ""
    verdict = passed(
        f"{_words(first)}{unscaled}",
        expected="an offset and a spread of about the size of one",
        numbers={"mean": first.mean, "std": first.std, "low": first.low, "high": first.high},
        exhibits=tuple(shown),
    )
    return uncertain(verdict, _errors(first), near_features(first, given.trained))


def _errors(entry: Entry) -> dict[str, float]:
    """Standard errors, each sample counted as one observation however many numbers it has."""
    error = entry.std / math.sqrt(max(1, entry.samples))
    extremes = {"low": SEEDS_LOW * abs(entry.low), "high": SEEDS_HIGH * abs(entry.high)}
    return {"mean": error, "std": error / math.sqrt(2), **extremes}


def _words(entry: Entry) -> str:
    name = f"`{entry.layer}`" if entry.layer else "the first layer"
    return (
        f"{name} is given values from {entry.low:.3g} to {entry.high:.3g}, mean {entry.mean:.3g}, standard deviation "
        f"{entry.std:.3g} (over {entry.samples} samples)"
    )


def _shown(verdict: Verdict, entry: Entry) -> Verdict:
    """The verdict with the layer's line and a picture of its input."""
    exhibits: list[Exhibit] = list(verdict.exhibits)
    if entry.shown is not None:
        exhibits.append(entry.shown)
    return dataclasses.replace(verdict, places=where(entry), exhibits=tuple(exhibits))


def _blank(one: InputStatistics, words: str) -> Verdict | None:
    """Samples of a single value among others that vary: failed reads, most likely."""
    number = 1
    for length in one.shape:
        number *= length
    share = one.constant / max(1, one.samples)
    if one.kind == "bool" or number < BLANK_VALUES or (one.distinct or 3) <= 2 or len(one.shape) < 2:
        return None
    if one.constant < 2 or not BLANK < share < MOSTLY or len(set(one.constant_values)) > 1:
        return None
    if len(one.constant_labels) >= CLASS and len(set(one.constant_labels)) == 1:
        return None  # silence, an empty slice: a class of its own
    at = ", ".join(map(str, one.constant_at))
    return warned(
        f"{one.constant} of {one.samples} samples of `{one.name or 'the input'}` hold nothing but {one.constant_values[0]:g} "
        f"(at positions {at} of the epoch)",
        expected="samples with something in them",
        summary=f"{100 * share:.2g} % of the samples are blank: every value is {one.constant_values[0]:g}",
        numbers={"share": share, "blank": float(one.constant)},
        causes=("reading or decoding a file failed, and zeros were returned in its place", f"seen in {words}"),
        remedies=(Remedy(text="let the data set raise where reading fails, and leave the files it names out"),),
    )
