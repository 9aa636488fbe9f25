"""The judgement alone, on evidence made by hand."""

import pytest

from nncheck.checks.setup import reproducibility as limits
from nncheck.checks.setup.reproducibility import reproducibility
from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.loss_repeats import ROUNDING, LossRepeats
from nncheck.probes.name_orders import NameOrders, SetOrder
from nncheck.probes.worker_streams import WorkerStreams
from nncheck.verdict import Place, Status

LOSS = LossRepeats(first=1.0, second=1.0)
DATA = ItemRepeats(items=24, batches_repeat=True, map_style=True)
CLOCK = (Place(name="time.time", file="model.py", line=3),)


@pytest.mark.parametrize(
    ("loss", "data", "workers", "status", "words"),
    [
        (LOSS, DATA, WorkerStreams(), Status.PASS, ""),
        (LOSS, ItemRepeats(), WorkerStreams(), Status.PASS, ""),
        (LossRepeats(first=float("nan"), second=float("nan")), DATA, WorkerStreams(), Status.PASS, ""),
        (LossRepeats(first=1.0, second=1.0 + 0.9 * ROUNDING), DATA, WorkerStreams(), Status.PASS, ""),
        (LossRepeats(first=1.0, second=1.0 + 1.1 * ROUNDING), DATA, WorkerStreams(), Status.WARN, "loss"),
        (LossRepeats(first=1.0, second=1.0, private=("model.rng",)), DATA, WorkerStreams(), Status.WARN, "model.rng"),
        # The clock is looked at, and nothing comes of it.
        (LOSS, ItemRepeats(items=24, map_style=True, unseeded=CLOCK), WorkerStreams(), Status.PASS, ""),
        (LOSS, ItemRepeats(items=24, unequal=1, map_style=True, unseeded=CLOCK), WorkerStreams(), Status.WARN, "time.time"),
        (LOSS, ItemRepeats(items=24, unequal=1, map_style=True), WorkerStreams(), Status.WARN, "other items"),
        # A stream may go on where it stopped.
        (LOSS, ItemRepeats(batches_repeat=False), WorkerStreams(), Status.PASS, ""),
        (LOSS, ItemRepeats(batches_repeat=False, unseeded=CLOCK), WorkerStreams(), Status.WARN, "time.time"),
        (LOSS, ItemRepeats(items=24, private=("train_loader.dataset.rng",)), WorkerStreams(), Status.WARN, "dataset.rng"),
        (LOSS, ItemRepeats(items=24, edited=("dataset.x",)), WorkerStreams(), Status.FAIL, "dataset.x"),
        (LOSS, ItemRepeats(once="zip", ended_after=8, empty_again=True), WorkerStreams(), Status.WARN, "zip of 8"),
        (LOSS, ItemRepeats(once="generator"), WorkerStreams(), Status.PASS, ""),
        (LOSS, ItemRepeats(items=24, frozen=(1 + 0.99 * limits.FROZEN * 0.3, 0.3)), WorkerStreams(), Status.PASS, ""),
        (
            LOSS,
            ItemRepeats(items=24, frozen=(1 + 1.01 * limits.FROZEN * 0.3, 0.3), reseeded=CLOCK),
            WorkerStreams(),
            Status.WARN,
            "frozen",
        ),
        (LOSS, ItemRepeats(items=24, unused="dataset.transform"), WorkerStreams(), Status.WARN, "dataset.transform"),
        (LOSS, DATA, WorkerStreams(workers=4, asked=True), Status.PASS, ""),
        (LOSS, DATA, WorkerStreams(workers=4, asked=True, same_chance=True), Status.WARN, "4 workers"),
        (LOSS, DATA, WorkerStreams(workers=4, asked=True, shared=1.0, samples=99), Status.PASS, ""),
    ],
)  # fmt: skip
def test_reproducibility(
    loss: LossRepeats, data: ItemRepeats, workers: WorkerStreams, status: Status, words: str
) -> None:
    verdict = reproducibility(loss, data, workers, NameOrders())
    assert verdict.status is status
    assert verdict.measured
    assert words in f"{verdict.summary} {verdict.measured}"


def test_a_sets_order_is_named() -> None:
    orders = NameOrders(found=(SetOrder(name="classes", names=9, first=("dog", "cat", "eel")),))
    verdict = reproducibility(LOSS, DATA, WorkerStreams(), orders)
    assert verdict.status is Status.WARN
    assert "classes numbers 9 names in the order of a set" in verdict.summary
