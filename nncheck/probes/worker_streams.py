"""What the worker processes of a loader would give: the same random numbers, the same samples?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from nncheck.lab import fingerprint
from nncheck.lab.forked import ask_workers
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe

# How often one item is fetched in each worker, to see its chance; and how many samples of a stream are compared.
FETCHES, SAMPLES = 4, 1024
# A worker is asked for no longer.
ASKED_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class WorkerStreams:
    """Two workers of the training loader, seeded as torch seeds them.

    workers: how many the user's loader has. asked: whether two could be asked.
    same_chance: whether an item comes out differently when a worker fetches it again, and the second worker's random items are
    the first one's; same_next_epoch: whether the first worker's are again in the next epoch.
    shared: of an iterable data set, the share of one worker's samples that the other gives too; None for others. same_order:
    whether they are the same one by one; ended: whether both came to an end. distinct: the share of different samples among one
    worker's.
    """

    workers: int = 0
    asked: bool = False
    same_chance: bool = False
    same_next_epoch: bool = False
    shared: float | None = None
    same_order: bool = False
    ended: bool = False
    samples: int = 0
    distinct: float = 1.0


@probe
def worker_streams(sandbox: Sandbox) -> WorkerStreams:
    """Ask two copies of this process, if the user's loader has at least two workers."""
    loader = sandbox.setup.train_loader
    workers = loader.num_workers if isinstance(loader, DataLoader) else 0
    if not isinstance(loader, DataLoader) or workers < 2:
        return WorkerStreams(workers=workers)
    sandbox.check_time()
    if isinstance(loader.dataset, IterableDataset):
        answers = ask_workers(loader, _first_samples)
        if answers is None:
            return WorkerStreams(workers=workers)
        (first, first_ended), (second, second_ended) = answers
        one, other = set(first), set(second)
        return WorkerStreams(
            workers=workers,
            asked=True,
            shared=len(one & other) / max(1, min(len(one), len(other))),
            same_order=first[: len(second)] == second[: len(first)],
            ended=first_ended and second_ended,
            samples=len(first),
            distinct=len(one) / max(1, len(first)),
        )
    answers = ask_workers(loader, _one_item_again)
    if answers is None:
        return WorkerStreams(workers=workers)
    chance = len(set(answers[0])) > 1
    later = ask_workers(loader, _one_item_again, workers=1, epoch=1) if chance else None
    return WorkerStreams(
        workers=workers,
        asked=True,
        same_chance=chance and answers[0] == answers[1],
        same_next_epoch=chance and later is not None and later[0] == answers[0],
    )


def _one_item_again(data: Any) -> Sequence[str]:
    return [fingerprint.of(data[0]) for _ in range(FETCHES)]


def _first_samples(data: Any) -> tuple[Sequence[str], bool]:
    """Fingerprints of the first samples, and whether there are no more."""
    marks: list[str] = []
    started = time.monotonic()
    for item in islice(iter(data), SAMPLES):
        marks.append(fingerprint.of(item))
        if time.monotonic() - started > ASKED_SECONDS:
            return marks, False
    return marks, len(marks) < SAMPLES
