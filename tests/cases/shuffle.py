"""Three classes of vectors that lie in the data set one after the other, as a folder for each class gives them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from nncheck import Recipe

CLASSES, EACH = 4, 160


def _vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 8, generator=generator)
    y = (x @ torch.randn(8, CLASSES, generator=generator)).argmax(1)
    rows = torch.cat([(y == label).nonzero()[:EACH, 0] for label in range(CLASSES)])
    return x[rows], y[rows]


def _setup(loader: DataLoader[tuple[Tensor, ...]], outputs: int = CLASSES, loss: nn.Module | None = None) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=loader, loss_fn=loss or nn.CrossEntropyLoss(), optimizer=optimizer)


def _by_class(shuffle: bool) -> Recipe:
    return _setup(DataLoader(TensorDataset(*_vectors()), batch_size=32, shuffle=shuffle))


class TwoClassesABatch(Sampler[list[int]]):
    """Batches of two classes each, as metric learning wants them, drawn anew each epoch."""

    def __init__(self, labels: Tensor) -> None:
        self.places = [(labels == label).nonzero()[:, 0] for label in range(CLASSES)]

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            chosen = torch.randperm(CLASSES)[:2]
            yield torch.cat([self.places[c][torch.randint(EACH, (16,))] for c in chosen.tolist()]).tolist()


def healthy() -> Recipe:
    return _by_class(shuffle=True)


def broken() -> Recipe:
    return _by_class(shuffle=False)


def fixed() -> Recipe:
    return _by_class(shuffle=True)


def near_miss() -> dict[str, Recipe]:
    """In the same order each epoch, but a random one; few classes in each batch, on purpose."""
    x, y = _vectors()
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    sampler = TwoClassesABatch(y)
    return {
        "mixed once": _setup(DataLoader(TensorDataset(x[mixed], y[mixed]), batch_size=32)),
        "two classes a batch": _setup(DataLoader(TensorDataset(x, y), batch_sampler=sampler)),
    }
