"""What the network sees shows nothing: the same for every sample, or a single value.

What it does
    Takes pictures of what enters the first layers with parameters, after everything the data set, the loader, the step and the
    model itself did to it: images with their range, tokens (decoded where the data set has a vocabulary), series and rows of
    tables; and beside them a few items as the data set stores them. Warns only of what is surely wrong to look at.
Why it matters
    Most faults of data are seen at one look at what really goes into the network, and only there: a look at the files, or at the
    data set before its transforms, shows something else.
How to fix
    Look at the pictures, and at the line they come from. Where all samples are the same, follow one item from the data set to the
    batch: an index that is not used, a buffer that is filled again, a path that is read for every item.
Known limits
    Eyes are needed for the rest: a wrong label, a mirrored digit, colours in another order.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): "visualize just before the net".
"""

import math

from nncheck.checks.data._scale_of_images import where
from nncheck.probes.network_input import Entry, NetworkInput
from nncheck.probes.stored_items import StoredItems
from nncheck.registry import check
from nncheck.verdict import Exhibit, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Where the data of a batch go in. What is added or multiplied by a parameter elsewhere may be a grid or a mask.
LOOKED_AT = ("linear", "conv", "recurrent", "embedding", "norm")
# As many equal samples are no accident, nor are as many equal values in one.
SAMPLES, VALUES = 8, 8
# Share of samples without any variation inside; the rest may be padding of another length.
BLANK = 0.95
# In texts the most frequent word is 5 to 10 % of all, a space a sixth of the characters; small alphabets have frequent letters.
MOSTLY, APART, VOCABULARY = 0.5, 5.0, 20
SHOWN = 3


@check(stage=Stage.DATA, after=("forward-pass",), part="train_loader")
def input_preview(given: NetworkInput, stored: StoredItems) -> Verdict:
    """Show what goes in; speak only where nothing is to be seen."""
    entries = [entry for entry in given.entries if entry.kind in LOOKED_AT]
    if not entries:
        return skipped("the batch's tensors are not followed into a layer here")
    exhibits: list[Exhibit] = [entry.shown for entry in entries[:SHOWN] if entry.shown is not None]
    exhibits += [seen for seen in (stored.decoded, stored.items) if seen is not None]
    first = entries[0]
    measured = "; ".join(_words(entry) for entry in entries[:SHOWN])
    if all(entry.same and entry.samples >= SAMPLES for entry in entries):
        return failed(
            f"all {first.samples} samples are the same: {measured}",
            expected="samples that differ",
            summary=f"every sample the network is given is the same ({first.samples} were compared)",
            numbers={"samples": float(first.samples)},
            places=where(first),
            causes=(
                "`__getitem__` does not use its index, or a buffer is filled again for every item",
                "the input is overwritten with a constant: zeros, a mask, the first row of the batch",
            ),
            remedies=(Remedy(text="compare two items", code="print(dataset[0], dataset[1])"),),
            exhibits=tuple(exhibits),
        )
    if all(entry.blank >= BLANK and _is_seen(entry) for entry in entries):
        return warned(
            f"{100 * first.blank:.3g} % of {first.samples} samples consist of one value each: {measured}",
            expected="something to see within a sample",
            summary=f"{100 * first.blank:.3g} % of the samples show nothing: all their values are equal",
            numbers={"blank": first.blank},
            places=where(first),
            causes=("only padding is left of the sequences", "a division or a cast took away all differences"),
            remedies=(Remedy(text="look at one item before and after each transform"),),
            exhibits=tuple(exhibits),
        )
    flooded = next((entry for entry in entries if _flooded(entry)), None)
    if flooded is not None:
        return _unknown_words(flooded, tuple(exhibits))
    return passed(
        measured,
        numbers={"mean": first.mean, "std": first.std, "low": first.low, "high": first.high},
        exhibits=tuple(exhibits),
    )


def _is_seen(entry: Entry) -> bool:
    """Whether there should be something to see within a sample: an image, a series, a text; not a row of columns."""
    return (entry.kind == "embedding" or len(entry.shape) > 2) and math.prod(entry.shape[1:]) >= VALUES


def _flooded(entry: Entry) -> bool:
    """Whether one id stands for most of the text. Id 0 may be 'nothing happened' in a sequence of events."""
    often = entry.frequent_share > MOSTLY and entry.second_share * APART < entry.frequent_share
    return entry.kind == "embedding" and bool(entry.frequent) and entry.ids >= VOCABULARY and often


def _unknown_words(entry: Entry, exhibits: tuple[Exhibit, ...]) -> Verdict:
    share = f"{100 * entry.frequent_share:.3g} %"
    return warned(
        f"id {entry.frequent} is {share} of the tokens, padding left out; the next of {entry.ids} ids is "
        f"{100 * entry.second_share:.2g} %",
        expected="many ids, none of them most of the text",
        summary=f"{share} of the tokens are id {entry.frequent}: most words are not in the vocabulary",
        numbers={"share": entry.frequent_share, "id": float(entry.frequent or 0)},
        places=where(entry),
        causes=(
            "the vocabulary was built from other texts, or from lower-case ones",
            "another tokenizer than the embedding's makes the ids",
        ),
        remedies=(
            Remedy(text="build the vocabulary with the function that encodes the texts, and print one decoded sample"),
        ),
        exhibits=exhibits,
    )


def _words(entry: Entry) -> str:
    name = f"`{entry.layer}`" if entry.layer else "the first layer"
    shape = "(" + ", ".join(map(str, entry.shape)) + ")"
    if entry.kind == "embedding":
        return f"{name} is given ids {shape} from {entry.low:g} to {entry.high:g} for {entry.width} rows"
    return f"{name} is given {shape}, {entry.low:.3g} to {entry.high:.3g}, mean {entry.mean:.3g}, deviation {entry.std:.3g}"
