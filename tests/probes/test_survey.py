"""One pass over a loader: its sums against those of the whole set, its caps, and that it leaves no trace."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import nncheck
from nncheck.errors import CannotMeasure, TargetError
from nncheck.lab.sandbox import Sandbox
from nncheck.survey.features import Features
from nncheck.survey.labels import Labels
from nncheck.survey.survey import Survey, survey
from nncheck.survey.walk import look, walk
from nncheck.target.assemble import assemble


def sandbox(loader: Any) -> Sandbox:
    recipe = nncheck.Recipe(model=nn.Linear(4, 3), train_loader=loader, loss_fn=nn.CrossEntropyLoss())
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def seen(loader: Any, seconds: float = 60.0) -> Survey:
    return survey(sandbox(loader), loader, seconds=seconds, what="training")


@pytest.mark.parametrize(("samples", "size"), [(100, 7), (1, 1), (3000, 512)])
def test_sums_are_those_of_the_whole_set(samples: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1000 + torch.randn(samples, 4, generator=generator) * torch.tensor([1.0, 2.0, 0.0, 1e-3])
    y = torch.randint(3, (samples,), generator=generator)
    found = seen(DataLoader(TensorDataset(x, y), batch_size=size, shuffle=True))
    assert found.coverage.samples == samples
    assert found.coverage.complete
    (one,) = found.inputs
    axis, spread = one.axes[0]
    assert axis == 1
    torch.testing.assert_close(torch.tensor(spread.mean), x.double().mean(0).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(spread.std), x.double().std(0, correction=0).float(), rtol=1e-4, atol=1e-7)
    assert (one.low, one.high) == (float(x.min()), float(x.max()))
    (target,) = found.targets
    assert dict(target.counts or ()) == {float(v): int((y == v).sum()) for v in y.unique()}


def test_images_by_axis_and_blank_ones_by_channel() -> None:
    x = torch.randn(40, 3, 8, 8)
    x[7] = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    (one,) = seen(DataLoader(TensorDataset(x, torch.zeros(40)), batch_size=16)).inputs
    assert [axis for axis, _ in one.axes] == [1, 2, 3]
    assert (one.constant, one.constant_at) == (1, (7,))
    assert one.distinct is None


def test_not_finite_values_are_left_out() -> None:
    features = Features()
    x = torch.tensor([[1.0, float("nan")], [float("inf"), 3.0]])
    features.add(0, look((x, torch.zeros(2))))
    (one,) = features.result()
    assert (one.low, one.high) == (0.0, 3.0)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.uint16]
)
def test_every_dtype(dtype: torch.dtype) -> None:
    features, labels = Features(), Labels()
    batch = (torch.ones(6, 3).to(dtype), torch.ones(6, 2).to(dtype))
    for accumulator in (features, labels):
        accumulator.add(0, look(batch))
        accumulator.add(1, look((batch[0][:0], batch[1][:0])))
        accumulator.result()


def test_rows_of_soft_targets() -> None:
    labels = Labels()
    labels.add(0, look((torch.zeros(4, 1), torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 0], [1, 1, 1]]))))
    (one,) = labels.result()
    assert one.rows is not None
    assert (one.rows.to_one, one.rows.all_zero, one.rows.high_sum) == (0.5, 0.25, 3.0)


def test_ragged_batches_and_batches_of_one_label() -> None:
    batches = [
        (torch.zeros(2, 5, dtype=torch.long), torch.full((2, 5), -100)),
        (torch.ones(2, 7).long(), torch.ones(2, 7).long()),
    ]
    found = seen(batches)
    assert found.coverage.batches == 2
    assert found.targets[0].one_value_batches == ((-100.0, 1), (1.0, 1))
    assert found.inputs[0].axes[0][0] == 1


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.randn(4), torch.tensor(1)


def test_an_endless_stream_ends_by_time() -> None:
    found = seen(DataLoader(Endless(), batch_size=8), seconds=0.2)
    assert not found.coverage.complete
    assert "stopped after" in found.coverage.words


def test_a_pass_ends_by_samples() -> None:
    loader = DataLoader(TensorDataset(torch.randn(100, 4), torch.zeros(100)), batch_size=10)
    assert walk(sandbox(loader), loader, (), seconds=60, samples=35).samples == 40


def test_a_loader_that_is_an_iterator_is_not_emptied() -> None:
    box = sandbox(iter([(torch.randn(2, 4), torch.zeros(2).long())] * 5))
    coverage = walk(box, box.setup.train_loader, (), seconds=60)
    assert coverage.batches == 5
    assert len(box.feed.take(5)) == 5


class Remembering(Dataset[tuple[Tensor, int]]):
    """Counts its calls, keeps what it gave, and draws from generators of its own."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls = 0
        self.kept: dict[int, Tensor] = {}
        self.scale = torch.ones(3)
        self.generator = torch.Generator().manual_seed(1)
        self.fails_at = fails_at

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == self.fails_at:
            raise ValueError("broken file")
        self.calls += 1
        self.scale += 1
        self.kept[index] = torch.zeros(1)
        return torch.randn(4, generator=self.generator), index % 3


def test_the_data_set_is_left_as_it_was() -> None:
    data = Remembering()
    before = data.generator.get_state()
    state = torch.get_rng_state()
    seen(DataLoader(data, batch_size=5, shuffle=True))
    assert (data.calls, data.kept) == (0, {})
    assert torch.equal(data.scale, torch.ones(3))
    assert torch.equal(data.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failure_after_the_first_batch_ends_the_pass() -> None:
    coverage = seen(DataLoader(Remembering(fails_at=12), batch_size=5)).coverage
    assert coverage.batches == 2
    assert "broken file" in coverage.failure
    loader = DataLoader(Remembering(fails_at=0), batch_size=5)
    with pytest.raises(TargetError, match="broken file"):
        walk(sandbox(DataLoader(Remembering())), loader, (), seconds=60)
    with pytest.raises(CannotMeasure, match="no batch"):
        walk(sandbox(DataLoader(Remembering())), [], (), seconds=60)


def test_the_pass_begins_with_the_batches_the_probes_get() -> None:
    loader = DataLoader(TensorDataset(torch.randn(64, 4), torch.zeros(64).long()), batch_size=8, shuffle=True)
    box = sandbox(loader)
    firsts: list[Tensor] = []

    class First:
        def add(self, index: int, seen: Any) -> None:
            firsts.append(seen.inputs[0].rows)

    walk(box, loader, (First(),), seconds=60)
    assert torch.equal(firsts[0], box.feed.first[0])
