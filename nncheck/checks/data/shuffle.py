"""The samples come in the order of their labels, and in the same order every epoch.

What it does
    Takes the labels of one epoch in the order of the loader. Compares how mixed the batches are with batches made from the same
    labels shuffled 40 times: the entropy of classes, or the share of a target's variance that lies within batches. Looks whether
    the next epoch has the same order, and whether a sampler seeds it with a constant.
Why it matters
    A batch of one class pulls the network to this class; the next pulls it elsewhere. The loss makes a sawtooth, running
    statistics follow the last class, and the end of the epoch is what is remembered.
How to fix
    `DataLoader(..., shuffle=True)`. For a stream, shuffle the files or keep a shuffle buffer; for an own sampler, draw a new
    permutation each epoch.
Known limits
    Speaks only where the order is the same in each epoch: samplers that make batches of few classes on purpose draw anew.
    Windows of one series in the order of time, and orders that are random but repeated, are only told. Targets of several
    numbers are not looked at.
Source
    Bengio, "Practical Recommendations for Gradient-Based Training of Deep Architectures" (2012), section 3.1: shuffle once or more.
"""

import math
from typing import Any

from nncheck.checks._near import Edge, near, uncertain
from nncheck.probes.batch_order import SHUFFLES, BatchOrder
from nncheck.registry import check
from nncheck.verdict import Heatmap, Remedy, Stage, Verdict, failed, passed, skipped, warned

# Batches drawn by chance have, over 40 shufflings, a mean that is known well; six of its standard deviations are never left by
# chance (p < 1e-8 for the nearly normal mean over batches), and fewer than four batches say nothing.
BELOW, BATCHES = 6.0, 4
# Labels may come in runs for a reason (one recording after the other); batches that hold less than half of the entropy of random
# ones are another matter. Sorted labels have 0.01 to 0.3 of it, by batches a class; shuffled ones 0.96 to 1.04.
LITTLE = 0.5
# A target in ascending order; a series with a trend goes up and down on its way.
RISING = 0.98
# Neighbours that share a block of steps are windows of one series, which may be read in the order of time.
OVERLAP = 0.2


@check(stage=Stage.DATA, after=("forward-pass",), part="train_loader")
def shuffle(order: BatchOrder) -> Verdict:
    """Judge the order of the labels."""
    verdict = _judge(order)
    # One shuffling's standard deviation, which the distance is counted in, is also the error of what is seen once.
    one = (order.by_chance - order.mixed) / order.below if order.below else 0.0
    return uncertain(
        verdict, {"mixed": abs(one), "by_chance": abs(one) / math.sqrt(SHUFFLES), "standard_deviations_below": 1.0}
    )


def _near(order: BatchOrder) -> str:
    """Of how far from mixed the labels are, where the same order comes again; whether they are sorted is exact."""
    if order.same_order is not True or order.batches < BATCHES or order.overlap > OVERLAP or not order.below:
        return ""
    one = abs((order.by_chance - order.mixed) / order.below)
    return near(
        Edge(name="the distance from shuffled labels", value=order.below, limit=BELOW, error=1.0),
        Edge(name="how mixed batches are", value=order.mixed, limit=LITTLE * order.by_chance, error=one, above=False),
    )


def _judge(order: BatchOrder) -> Verdict:
    if order.batches < 2:
        return skipped("the loader gives one batch: there is no order", numbers={"samples": float(order.samples)})
    repeats = {True: "the next epoch has the same order", False: "the next epoch has another order", None: ""}
    told = [repeats[order.same_order]] if order.same_order is not None else []
    if 0 < order.last < order.size / 8:
        told.append(f"the last batch has {order.last} of {order.size} samples")
    if order.same_order and order.reseeded is not None:
        return _same_seed(order, "; ".join(told))
    if not order.kind:
        return skipped("a sample has no label of one number", measured="; ".join(told))
    if order.kind == "classes":
        what = f"the labels in a batch have entropy {order.mixed:.3g}, shuffled ones {order.by_chance:.3g}"
    else:
        what = f"{order.mixed:.0%} of the target's variance lies within batches, {order.by_chance:.0%} when shuffled"
    measured = "; ".join([f"{what} ({order.batches} batches of {order.size})", *told])
    expected = "batches as mixed as random ones, or another order each epoch"
    details: dict[str, Any] = {
        "numbers": {
            "mixed": order.mixed,
            "by_chance": order.by_chance,
            "standard_deviations_below": order.below,
            "same_order": float(bool(order.same_order)),
        }
    }
    if order.shares:
        details["exhibits"] = (
            Heatmap(
                title="Labels by batch, in the order of the loader",
                x_label="batch",
                y_label="class",
                values=order.shares,
            ),
        )
    unmixed = order.below > BELOW and order.mixed < LITTLE * order.by_chance and order.batches >= BATCHES
    sorted_ = order.runs == order.classes if order.kind == "classes" else order.rising >= RISING
    decides = sorted_ or (order.kind != "numbers" and order.indexed)
    said = _near(order) if decides else ""
    if not unmixed or order.same_order is not True or order.overlap > OVERLAP:
        return passed(measured, expected=expected, near=said, **details)
    if not decides:
        # A stream may have reasons for runs of one label, a series for neighbours that are alike.
        return passed(measured, expected=expected, **details)
    how = "sorted by label" if sorted_ else "in long runs of one label"
    remedy = (
        Remedy(text="shuffle", code="DataLoader(..., shuffle=True)")
        if order.indexed
        else Remedy(text="shuffle the samples before they are put into batches, anew each epoch")
    )
    return (failed if sorted_ and order.indexed else warned)(
        measured,
        expected=expected,
        summary=f"the training samples come {how}, in the same order every epoch",
        causes=(
            f"the loader reads with {order.drawn_by}: `shuffle=True` is missing",
            "the data set lists one class after the other, or was sorted",
        ),
        remedies=(remedy,),
        near=said,
        **details,
    )


def _same_seed(order: BatchOrder, told: str) -> Verdict:
    """A shuffled order, the same one each epoch."""
    assert order.reseeded is not None
    return warned(
        f"{order.drawn_by} draws its order with {order.reseeded.name}, given the same seed each time; {told}",
        expected="another order each epoch",
        summary=f"{order.drawn_by} shuffles, but in the same order every epoch",
        places=(order.reseeded,),
        causes=("the sampler seeds its generator with a constant, or with an epoch that nobody counts",),
        remedies=(Remedy(text="seed with the epoch and count it, or draw from torch's global generator"),),
    )
