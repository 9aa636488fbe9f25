"""What is read off a data set itself: stored images, items without their transform, vocabularies, samplers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

import nncheck
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.sampling import sampling
from nncheck.probes.stored_items import stored_items
from nncheck.probes.stored_pixels import stored_pixels
from nncheck.target.assemble import assemble


def box(loader: Any, model: nn.Module | None = None) -> Sandbox:
    model = model or nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    recipe = nncheck.Recipe(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss())
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


class Folder(Dataset[tuple[Any, int]]):
    """Smooth 8-bit images of (12, 12, 3), as a folder's loader would keep them."""

    def __init__(self, load: Callable[[np.ndarray], Any], transform: Callable[[Any], Any] | None = None) -> None:
        generator = np.random.default_rng(0)
        start = generator.integers(20, 120, (40, 1, 1, 3))
        self.images = (start + 11 * np.arange(12)[:, None, None] + generator.integers(0, 4, (40, 12, 12, 3))).astype(
            np.uint8
        )
        self.load = load
        self.transform = transform

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item = self.load(self.images[index])
        return (self.transform(item) if self.transform else item), index % 3


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(
    ("load", "levels", "turned"),
    [
        (tensor, True, 0),
        (lambda image: tensor(image) * 2 - 1, True, 0),
        (lambda image: tensor(image).clamp(0, 0.7), True, 0),
        (lambda image: tensor(image + np.uint8(60)), True, 40),
        (lambda image: torch.from_numpy(image // 255).permute(2, 0, 1).float(), False, 0),
        # Mirrored: pixels are not in their places, and nothing is said of them.
        (lambda image: tensor(image).flip(1), True, 0),
        (lambda image: tensor(image)[:, 2:, 2:], None, 0),
    ],
)
def test_stored_pixels(load: Callable[[np.ndarray], Any], levels: bool | None, turned: int) -> None:
    found = stored_pixels(box(DataLoader(Folder(load), batch_size=8)))
    if levels is None:
        assert found.items == 0
        return
    assert found.items == 40
    assert (found.given_levels > 16) is levels
    assert bool(found.turned_items) is bool(turned)


def test_without_images_there_is_nothing_to_compare() -> None:
    assert stored_pixels(box(DataLoader(TensorDataset(torch.randn(20, 4), torch.zeros(20).long())))).items == 0
    assert stored_pixels(box([(torch.randn(4, 4), torch.zeros(4).long())] * 3)).items == 0


def test_items_without_their_transform_and_the_transform_put_back() -> None:
    data = Folder(lambda image: image, tensor)
    found = stored_items(box(DataLoader(data, batch_size=8))).items
    assert found is not None
    assert "uint8[12, 12, 3]" in found.samples[0].caption
    assert "float32[3, 12, 12]" in found.samples[1].caption
    assert data.transform is tensor
    assert stored_items(box(DataLoader(Folder(tensor), batch_size=8))).items is None


class Text(Dataset[tuple[Tensor, int]]):
    def __init__(self, **names: Any) -> None:
        vars(self).update(names)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([1, 0, 2]), index % 3


class Spoken:
    def decode(self, ids: list[int]) -> str:
        return "-".join(map(str, ids))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"itos": ["a", "b", "c"]}, "bac"),
        ({"itos": {0: "one", 1: "two", 2: "three"}}, "two one three"),
        ({"stoi": {"one": 0, "two": 1, "three": 2}}, "two one three"),
        ({"tokenizer": Spoken()}, "1-0-2"),
        ({"chars": "xyz"}, "yxz"),
        ({"vocab": {}}, None),
        ({"itos": ["a"]}, None),
        ({}, None),
    ],
)
def test_tokens_are_decoded(names: dict[str, Any], text: str | None) -> None:
    model = nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(12, 3))
    found = stored_items(box(DataLoader(Text(**names), batch_size=4), model)).decoded
    assert (found.samples[0].text if found else None) == text


def test_sampling() -> None:
    y = torch.tensor([0] * 15 + [1] * 5)
    data = TensorDataset(torch.randn(20, 4), y)
    found = sampling(box(DataLoader(data, sampler=WeightedRandomSampler([0.1, 0.9], 20))))
    assert (found.sampler, found.weights, found.length) == ("WeightedRandomSampler", 2, 20)
    assert found.labels == ((0, 15), (1, 5))
    assert sampling(box(DataLoader(data, shuffle=True))).weights is None
    assert sampling(box(DataLoader(Subset(data, [0, 16, 17])))).labels == ((0, 1), (1, 2))
    assert sampling(box([(torch.randn(4, 4), y[:4])])).length is None
