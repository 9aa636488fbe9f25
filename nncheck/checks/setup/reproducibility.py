"""The same seed gives other data or another loss, or chance that should be fresh repeats itself.

What it does
    Seeds torch, NumPy and Python, takes the loss of one batch twice, and fetches the same items and batches twice; then items under
    another seed. Looks for unseeded generators, calls that reseed, arrays that reading changes, loaders that have one epoch only,
    workers that draw the same random numbers, and classes numbered in the order of a set.
Why it matters
    A run that cannot be repeated cannot be debugged. Data that are edited while they are read drift away from epoch to epoch; an
    augmentation that comes out the same each time is none; a generator is empty from the second epoch on.
How to fix
    Draw from generators that you seed, made once: no clock, no `default_rng()` without a seed. Copy before editing
    (`x = self.x[i].clone()`). Do not seed inside `__getitem__`. Give a DataLoader or a list, not a generator. In workers draw from
    torch's global generator, or seed yours in `worker_init_fn` from `torch.initial_seed()`. Sort names before numbering them.
Known limits
    A file that sets no seed at all is no finding: nncheck sets one. Looks at 24 items and 2 batches. Rounding that depends on the
    device is told from chance by its size (1e-5). Of a Python `random.Random()` nobody knows whether it was seeded.
Source
    Karpathy, "A Recipe for Training Neural Networks" (2019): fix the random seed. Worker seeds: pytorch/pytorch issue 5059.
"""

from collections.abc import Callable
from typing import Any

from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.loss_repeats import LossRepeats
from nncheck.probes.name_orders import NameOrders
from nncheck.probes.worker_streams import WorkerStreams
from nncheck.registry import check
from nncheck.verdict import Place, Remedy, Stage, Verdict, failed, passed, warned

# Standard deviations of an F ratio above 1, at which items surely keep something that their labels and seeds do not explain. The
# ratio's upper tail is longer than a normal one's: with 20 degrees of freedom and one number an item, 6 of them are p = 2e-5.
FROZEN = 6.0


@check(stage=Stage.SETUP, after=("forward-pass", "finite-values"), part="train_loader")
def reproducibility(loss: LossRepeats, data: ItemRepeats, workers: WorkerStreams, orders: NameOrders) -> Verdict:
    """Judge what was the same again, and what should not have been."""
    measured = _measured(loss, data)
    details: dict[str, Any] = {
        "numbers": {
            "loss_difference": loss.differs,
            "items": float(data.items),
            "items_unequal": float(data.unequal),
            "items_that_vary": float(data.vary),
        }
    }
    found = (
        _edited(data)
        or _one_epoch(data)
        or _unrepeatable_data(data)
        or _unrepeatable_loss(loss)
        or _frozen(data)
        or _workers(workers)
        or _set_order(orders)
    )
    if found is None:
        return passed(measured, expected="the same seed gives the same items and the same loss", **details)
    status, said, expected, summary, more = found
    return status(f"{said}; {measured}", expected=expected, summary=summary, **details, **more)


def _measured(loss: LossRepeats, data: ItemRepeats) -> str:
    parts = []
    if loss.differs == 0.0:
        parts.append(f"the loss of the first batch is {loss.first:.6g} twice, to the last bit")
    elif loss.equal:
        parts.append(f"the loss of the first batch is {loss.first:.6g} twice, but for rounding ({loss.differs:.1g})")
    else:
        parts.append(f"the loss of the first batch is {loss.first:.6g} and then {loss.second:.6g} under one seed")
    if data.items:
        varies = f"{data.vary} come out differently under another seed" if data.vary else "no seed changes them"
        parts.append(f"{data.items - data.unequal} of {data.items} items are the same again under one seed, {varies}")
    if data.batches_repeat is not None:
        parts.append(
            f"the first batches are {'the same' if data.batches_repeat else 'others'} in a second epoch with one seed"
        )
    return "; ".join(parts)


_Found = tuple[Callable[..., Verdict], str, str, str, dict[str, Any]]


def _edited(data: ItemRepeats) -> _Found | None:
    if not data.edited:
        return None
    names = ", ".join(data.edited[:3])
    return (
        failed,
        f"reading items changed {names}, and the items read again are not the same",
        "reading an item leaves the data set as it is",
        f"the data set is edited while it is read: {names} changes from epoch to epoch",
        {
            "places": tuple(Place(name=name) for name in data.edited),
            "causes": ("an operation in place (`x -= mean`, `x /= 255`, `x.mul_()`) on a view of the stored data",),
            "remedies": (Remedy(text="copy the item before changing it", code="x = self.x[i].clone()  # or .copy()"),),
        },
    )  # fmt: skip


def _one_epoch(data: ItemRepeats) -> _Found | None:
    if not data.empty_again:
        return None
    what = f"a {data.once}" if data.once else "a data set that hands out one iterator"
    length = f" of {data.ended_after} batches" if data.ended_after is not None else ""
    return (
        warned,
        f"the training loader is {what}{length}: asked again, it gives no batch",
        "a loader that can be iterated again for each epoch",
        "the training loader is used up after one epoch: from the second on nothing is trained",
        {
            "causes": ("a generator, `zip(...)` or `map(...)` can be iterated once only",),
            "remedies": (
                Remedy(
                    text="give a DataLoader, or a list of the batches; a data set makes a new iterator in `__iter__`",
                    code="train_loader = list(batches)",
                ),
            ),
        },
    )


_CHANCE = Remedy(
    text="draw from torch's, NumPy's or Python's global generator, or from one made once with a seed you write down"
)


def _unrepeatable_data(data: ItemRepeats) -> _Found | None:
    differs = data.unequal > 0 or data.batches_repeat is False
    known = bool(data.private or data.unseeded)
    if data.private:
        said = f"items draw from {', '.join(data.private[:3])}, which was made without a seed"
        summary = f"the data are not repeatable: {data.private[0]} has no seed"
    elif differs and data.unseeded:
        said = f"under one seed the data come out differently: {data.unseeded[0].name} is called"
        summary = f"the data are not repeatable: they depend on {data.unseeded[0].name}"
    elif differs and data.map_style:
        said = "under one seed the data come out differently"
        summary = "the data are not repeatable: the same seed gives other items"
    else:
        return None
    causes = () if known else ("the clock, `os.urandom`, or a generator that is made anew without a seed",)
    return (
        warned,
        said,
        "the same items under the same seed",
        summary,
        {"places": data.unseeded[:3], "causes": causes, "remedies": (_CHANCE,)},
    )


def _unrepeatable_loss(loss: LossRepeats) -> _Found | None:
    if loss.private:
        said = f"the forward pass draws from {', '.join(loss.private[:3])}, which was made without a seed"
        summary = f"the loss is not repeatable: {loss.private[0]} has no seed"
    elif not loss.equal:
        said = "the same batch, weights and seed give another loss"
        who = (
            loss.unseeded[0].name
            if loss.unseeded
            else (f"layer {loss.layer.name}" if loss.layer else "the model or the loss")
        )
        summary = f"the loss is not repeatable under one seed: {who} draws numbers that no seed reaches"
    else:
        return None
    places = (*loss.unseeded[:3], *((loss.layer,) if loss.layer else ()))
    return warned, said, "the same loss under the same seed", summary, {"places": places, "remedies": (_CHANCE,)}


def _frozen(data: ItemRepeats) -> _Found | None:
    if data.frozen is not None and data.frozen[0] > 1 + FROZEN * data.frozen[1]:
        return (
            warned,
            f"each item is seeded anew while it is made ({data.reseeded[0].name}), and comes out the same in every epoch",
            "an augmentation that is drawn afresh each time",
            "the augmentation is frozen: a seed inside of the data set makes each item the same in every epoch",
            {
                "places": data.reseeded[:3],
                "causes": ("a generator is seeded with the item's index, or with a constant, whenever an item is made",),
                "remedies": (Remedy(text="seed once, before the training; draw without seeding in `__getitem__`"),),
            },
        )  # fmt: skip
    if data.unused:
        return (
            warned,
            f"{data.unused} gives another result each time it is called, but {data.items} items never change",
            "an augmentation that is drawn afresh each time",
            f"the augmentation is frozen: {data.unused} is random, yet the items come out the same every time",
            {
                "places": (Place(name=data.unused),),
                "causes": (
                    "augmented items are kept in a cache, or made once in `__init__`",
                    "the transform is never applied",
                ),
                "remedies": (Remedy(text="apply the random transform in `__getitem__`, after the cache"),),
            },
        )
    return None


def _workers(workers: WorkerStreams) -> _Found | None:
    if not workers.same_chance:
        return None
    again = ", and the same again in each epoch" if workers.same_next_epoch else ""
    return (
        warned,
        f"two of the loader's {workers.workers} workers make the same random numbers{again}",
        "random numbers of its own for each worker",
        f"the {workers.workers} workers of the loader draw the same random numbers{again}",
        {
            "causes": (
                "a generator made in `__init__` is copied into every worker, with its state",
                "`worker_init_fn` seeds every worker with the same number",
            ),
            "remedies": (
                Remedy(
                    text="draw from torch's global generator, or seed yours in each worker",
                    code="worker_init_fn=lambda i: dataset.reseed(torch.initial_seed() % 2**32)",
                ),
            ),
        },
    )


def _set_order(orders: NameOrders) -> _Found | None:
    if not orders.found:
        return None
    one = orders.found[0]
    return (
        warned,
        f"the {one.names} names in {one.name} stand in the order of a set: {', '.join(map(repr, one.first))}, ...",
        "an order that is the same in every process",
        f"{one.name} numbers {one.names} names in the order of a set: another process gives them other numbers",
        {
            "places": (Place(name=one.name),),
            "causes": ("text is hashed differently in every process, and a set is iterated by hash",),
            "remedies": (Remedy(text="sort the names before numbering them", code="enumerate(sorted(names))"),),
        },
    )  # fmt: skip
