"""The same samples come again and again, or the same input comes with different labels.

What it does
    Takes a fingerprint of every input and its label in one epoch. Counts inputs that come more than once, those with contradicting
    labels and the loss that these make unavoidable; the different indices that the sampler draws; and the samples that two workers
    of a stream both give.
Why it matters
    A few samples shown often are learned by heart. Contradicting labels put a floor under the loss that no model breaks. Copies
    that are spread over training and validation data flatter the score.
How to fix
    Drop copies before splitting (`np.unique(x, axis=0, return_index=True)`). Let the sampler draw from all indices. In an
    `IterableDataset` take every `num_workers`-th sample, by `get_worker_info()`. Look at the contradicting pairs: is a label
    column shifted, or an id missing?
Known limits
    Inputs of few possible values (codes, flags, games, short texts) meet by chance and are not judged. Oversampling that makes
    classes more even, a data set that repeats itself by index, and up to a tenth of copies are left alone. Copies that were
    changed a little are not found.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): look for duplicates. Barz and Denzler, "Do We Train on Test Data?
    Purging CIFAR of Near-Duplicates" (2020).
"""

import math
from collections.abc import Callable
from typing import Any

from nncheck.checks._near import Edge, near, share_error, uncertain
from nncheck.probes.duplicates import Duplicates
from nncheck.probes.worker_streams import WorkerStreams
from nncheck.registry import check
from nncheck.verdict import Remedy, Stage, Verdict, failed, passed, skipped, warned

# Benchmarks that are in daily use hold up to 3 % of (near) copies (CIFAR-10: 3.3 % of the test images, Barz and Denzler), so a few
# per cent are no fault of a set-up. A tenth is beyond all of them.
COPIES = 0.1
# Contradictions among copies: a loss floor of a twentieth of what knowing the labels' shares gives.
FLOOR = 0.05
# Two equal inputs of fewer bits than twice the logarithm of the samples are no surprise; real codes are far from evenly used, so
# that ten times as many bits are asked for.
BITS = 10.0
# Of an epoch's draws, this many fall on each of the items that are drawn at all; drawing with replacement gives 1.6.
AGAIN = 10.0
# Streams of two workers: all, but for what a shuffle buffer of its own leaves out.
SHARED = 0.9


@check(
    stage=Stage.DATA,
    after=("forward-pass",),
    consequence_of=(
        "input-preview",
        "class-balance",
    ),
    part="train_loader",
)
def duplicate_samples(seen: Duplicates, workers: WorkerStreams) -> Verdict:
    """Judge what comes more than once."""
    if seen.samples < 2:
        return skipped("there are no inputs to compare")
    # A sampler may draw an item several times; copies are items, not draws.
    draws = seen.drawn / seen.drawn_distinct if seen.drawn_distinct > 0 else 1.0
    expected_distinct = seen.samples / draws
    copies = max(0.0, 1 - seen.distinct / expected_distinct)
    measured = f"{seen.distinct:,} different inputs among {seen.samples:,}"
    if draws > 1:
        measured += f", of {seen.drawn_distinct:,} items drawn {draws:.3g} times each"
    if seen.conflicts:
        measured += (
            f"; {seen.conflicts:,} come with another label elsewhere, which keeps the loss above {seen.floor:.3g}"
        )
    details: dict[str, Any] = {
        "numbers": {
            "samples": float(seen.samples),
            "distinct": float(seen.distinct),
            "copies": copies,
            "conflicts": float(seen.conflicts),
            "loss_floor": seen.floor,
        }
    }
    # A whole pass that draws each item once is a count; anything else is a sample.
    error = 0.0 if seen.complete and draws == 1 else share_error(copies, seen.samples)
    found = _few_drawn(seen, draws) or _same_stream(workers)
    few_drawn = 0 <= seen.weights < seen.items
    natural = seen.few_values and seen.bits < BITS * 2 * math.log2(seen.samples)
    if found is None and not natural and not few_drawn:
        found = _contradicting(seen) or _copies(seen, copies)
    share = Edge(name="the share of copies", value=copies, limit=COPIES, error=error)
    if found is None:
        judged = not natural and not few_drawn and seen.stored and not _more_even(seen)
        nearly = near(share) if judged else ""
        said = " (inputs of few possible values: equal ones are no copies)" if natural and copies > 0 else ""
        verdict = passed(measured + said, expected="each sample once", near=nearly, **details)
        return uncertain(verdict, {"copies": error})
    by_copies = _copies(seen, copies) == found
    status, said, expected, summary, causes, remedy = found
    verdict = status(
        f"{said}; {measured}", expected=expected, summary=summary, causes=causes, remedies=(remedy,), **details
    )
    return uncertain(verdict, {"copies": error}, near(share) if by_copies else "")


_Found = tuple[Callable[..., Verdict], str, str, str, tuple[str, ...], Remedy]


def _few_drawn(seen: Duplicates, draws: float) -> _Found | None:
    # One weight for each class, where it should be one for each sample, is what `class-balance` says.
    if 0 <= seen.weights < seen.items or not (draws >= AGAIN and 0 < seen.drawn_distinct * AGAIN <= seen.items):
        return None
    return (
        failed,
        f"{seen.drawn:,} draws fall on {seen.drawn_distinct:,} of {seen.items:,} samples",
        "every sample can be drawn",
        f"only {seen.drawn_distinct:,} of {seen.items:,} samples are ever drawn",
        ("the sampler's indices or weights leave out nearly all samples",),
        Remedy(text="let the sampler draw from all indices", code="DataLoader(data, shuffle=True)"),
    )


def _same_stream(workers: WorkerStreams) -> _Found | None:
    again = workers.same_order or (workers.ended and (workers.shared or 0.0) > SHARED)
    if workers.shared is None or not again or workers.samples < 2 or workers.distinct < 0.5:
        return None
    return (
        failed,
        f"two of the loader's {workers.workers} workers give the same {workers.samples:,} samples",
        "each worker gives samples of its own",
        f"every sample comes {workers.workers} times in an epoch: each worker reads the whole stream",
        ("the `IterableDataset` does not ask which worker it is in",),
        Remedy(
            text="let each worker take its share",
            code="info = get_worker_info(); islice(samples, info.id, None, info.num_workers)",
        ),
    )


def _contradicting(seen: Duplicates) -> _Found | None:
    if not seen.classes or not seen.floor > FLOOR * seen.label_entropy:
        return None
    return (
        warned,
        f"{seen.conflicts:,} samples have an input that comes with another label elsewhere",
        "one label for one input",
        f"{seen.conflicts / seen.samples:.0%} of the samples contradict each other: the same input has different labels, "
        f"and the loss cannot fall below {seen.floor:.3g}",
        (
            "copies of a sample were labelled differently, or labels were shuffled among copies",
            "an input that failed to load is replaced by the same one (zeros) under every label",
        ),
        Remedy(text="look at the samples of one repeated input, and keep one label for them"),
    )


def _copies(seen: Duplicates, copies: float) -> _Found | None:
    if not copies > COPIES or not seen.stored or _more_even(seen):
        return None
    return (
        warned,
        f"{copies:.0%} of the inputs are copies of others, bit for bit",
        f"at most {COPIES:.0%} copies",
        f"{copies:.0%} of the training inputs are copies of others; the most frequent one comes {seen.most:,} times",
        (
            "two sources hold the same samples, or a part was appended twice",
            "inputs that fail to load become the same one",
        ),
        Remedy(text="drop copies before splitting off validation data", code="np.unique(x, axis=0, return_index=True)"),
    )


def _more_even(seen: Duplicates) -> bool:
    """Whether the copies make the classes more even."""
    return seen.classes > 1 and seen.label_entropy > seen.distinct_entropy + 0.01
