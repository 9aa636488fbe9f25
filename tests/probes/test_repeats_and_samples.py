"""Fingerprints, the order of sets, and what fetching again shows, on data made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import nncheck
from nncheck.evidence import Evidence
from nncheck.lab import fingerprint
from nncheck.lab.indices import drawn_indices, stores_items
from nncheck.lab.sandbox import Sandbox
from nncheck.probes import item_repeats
from nncheck.probes.batch_order import BatchOrder
from nncheck.probes.duplicates import Duplicates
from nncheck.probes.item_repeats import ItemRepeats
from nncheck.probes.name_orders import in_set_order
from nncheck.probes.split_overlap import SplitOverlap
from nncheck.probes.split_shift import SplitShift
from nncheck.registry import load
from nncheck.target.assemble import assemble


def _evidence(train: Any, val: Any = None) -> Evidence:
    load()
    recipe = nncheck.Recipe(
        model=nn.Linear(4, 2), train_loader=train, val_loader=val, loss_fn=nn.CrossEntropyLoss(), optimizer=None
    )
    return Evidence(Sandbox(assemble(recipe, seed=0), seed=0, device=torch.device("cpu")))


class Items(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, read: Callable[[Tensor, int], Tensor]) -> None:
        self.x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        self.read = read

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.read(self.x, index), torch.tensor(index % 2)


def test_rows_have_one_number_each_and_equal_rows_the_same() -> None:
    x = torch.randn(500, 7)
    x[3] = x[400]
    marks = fingerprint.rows(x)
    assert marks[3] == marks[400]
    assert marks.unique().numel() == 499
    for many in (torch.eye(1500), torch.arange(5000).view(-1, 1), torch.randint(0, 2, (3000, 64)).bool()):
        assert fingerprint.rows(many).unique().numel() == len(many)
    assert fingerprint.rows(torch.tensor([[0.0], [-0.0]])).unique().numel() == 1
    assert fingerprint.rows(torch.zeros(0, 3)).numel() == 0
    assert fingerprint.rows(torch.zeros(2, 0)).numel() == 2


def test_a_list_in_the_order_of_its_set_is_told_from_others() -> None:
    words = [f"word{i}" for i in range(200)]
    assert in_set_order(list(set(words)))
    assert in_set_order(["<pad>", "<unk>", *set(words)])
    assert not in_set_order(words)
    assert not in_set_order(sorted(words))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1)).tolist()
    assert not in_set_order([words[i] for i in order])
    assert not in_set_order([])


def _edit(x: Tensor, index: int) -> Tensor:
    x[index] *= 0.5
    return x[index]


def _seeded(x: Tensor, index: int) -> Tensor:
    return x[index] + 0.1 * torch.randn(4, generator=torch.Generator().manual_seed(index))


def _unseeded(x: Tensor, index: int) -> Tensor:
    return x[index] * float(np.random.default_rng().normal())


def test_items_fetched_again() -> None:
    def repeats(read: Callable[[Tensor, int], Tensor]) -> ItemRepeats:
        return _evidence(DataLoader(Items(read), batch_size=8, shuffle=True)).get(ItemRepeats)

    plain = repeats(lambda x, i: x[i])
    assert (plain.items, plain.unequal, plain.vary, plain.edited, plain.batches_repeat) == (24, 0, 0, (), True)
    assert repeats(lambda x, i: x[i] + torch.randn(4)).vary == 24
    assert repeats(_edit).edited == ("dataset.x",)
    unseeded = repeats(_unseeded)
    assert unseeded.unequal == 24
    assert unseeded.unseeded[0].name == "np.random.default_rng"
    frozen = repeats(_seeded).frozen
    assert frozen is not None
    assert frozen[0] > 1 + 10 * frozen[1]


def test_a_round_that_runs_out_of_time_is_compared_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        calls = 0

        def monotonic(self) -> float:
            """The last round of all is slow."""
            self.calls += 1
            return float(self.calls) if self.calls > limit else 0.0

    def repeats() -> tuple[bool | None, int]:
        clock = Clock()
        monkeypatch.setattr(item_repeats, "time", clock)
        evidence = _evidence(DataLoader(Items(lambda x, i: x[i]), batch_size=8, shuffle=True))
        return evidence.get(ItemRepeats).batches_repeat, clock.calls

    limit = 10**9
    all_in_time, calls = repeats()
    limit = calls - 2
    assert (all_in_time, repeats()[0]) == (True, True)


def test_a_validation_pair_of_which_one_stays_is_not_augmented() -> None:
    class Pairs(Dataset[tuple[Tensor, Tensor, int]]):
        def __init__(self, *, fixed: bool) -> None:
            self.x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
            self.fixed = fixed

        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
            first = self.x[index] if self.fixed else self.x[index] + torch.randn(4)
            return first, self.x[int(torch.randint(64, ()))], index % 2

    def changed(*, fixed: bool) -> int:
        loader = DataLoader(Pairs(fixed=fixed), batch_size=8)
        recipe = nncheck.Recipe(
            model=nn.Linear(4, 2), train_loader=loader, val_loader=DataLoader(Pairs(fixed=fixed), batch_size=8),
            optimizer=None, training_step=lambda model, batch: F.cross_entropy(model(batch[0] + batch[1]), batch[2]),
        )  # fmt: skip
        load()
        sandbox = Sandbox(assemble(recipe, seed=0), seed=0, device=torch.device("cpu"))
        return Evidence(sandbox).get(SplitShift).changed

    assert (changed(fixed=True), changed(fixed=False)) == (0, 16)


def test_one_epoch_only() -> None:
    x, y = torch.randn(32, 4), torch.randint(2, (32,))
    once = _evidence(zip(x.split(8), y.split(8), strict=True)).get(ItemRepeats)
    assert (once.once, once.ended_after, once.empty_again) == ("zip", 4, True)


@pytest.mark.parametrize(("shuffle", "same"), [(False, True), (True, False)])
def test_order_of_labels(shuffle: bool, same: bool) -> None:
    y = torch.arange(256) // 64
    order = _evidence(DataLoader(TensorDataset(torch.randn(256, 4), y), batch_size=16, shuffle=shuffle)).get(BatchOrder)
    assert order.kind == "classes"
    assert order.same_order is same
    assert (order.runs == 4) is same
    assert (order.mixed == 0.0) is same


def test_copies_contradictions_and_shared_items() -> None:
    x = torch.randn(100, 4)
    y = torch.zeros(200, dtype=torch.long)
    y[150:] = 1
    data = TensorDataset(torch.cat([x, x]), y)
    seen = _evidence(DataLoader(data, batch_size=10)).get(Duplicates)
    assert (seen.samples, seen.distinct, seen.conflicts) == (200, 100, 100)
    # Half of the samples come once with each label: ln 2 for them.
    assert seen.floor == pytest.approx(0.5 * 0.6931472, rel=1e-6)
    first, second = torch.utils.data.Subset(data, range(60)), torch.utils.data.Subset(data, range(50, 100))
    split = _evidence(DataLoader(first, batch_size=10), DataLoader(second, batch_size=10)).get(SplitOverlap)
    assert (split.shared_items, split.val_items, split.seen) == (10, 50, 10)
    drawn = drawn_indices(DataLoader(second, batch_size=10))
    assert drawn is not None
    assert drawn.drawn == tuple(range(50, 100))
    assert stores_items(data)
