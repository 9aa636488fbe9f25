"""Small data that need no download: four of scikit-learn's, and rendered or drawn ones, the same on every call."""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    data = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return torch.tensor(data.images[order], dtype=torch.float32) / 16, torch.tensor(data.target[order])


def digits(count: int = 1200, *, skip: int = 0) -> tuple[Tensor, Tensor]:
    """Handwritten digits in [0, 1], (count, 1, 8, 8), in random order; `skip` leaves room for a training part."""
    x, y = _digits()
    return x[skip : skip + count, None].clone(), y[skip : skip + count].clone()


@functools.cache
def _table(name: str) -> tuple[Tensor, Tensor]:
    data = getattr(datasets, f"load_{name}")()
    order = np.random.default_rng(1).permutation(len(data.target))
    x = torch.tensor(data.data[order], dtype=torch.float32)
    y = torch.tensor(data.target[order])
    return x, y.float() if y.is_floating_point() else y


def table(name: str, *, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """`wine`, `breast_cancer` or `diabetes`, in random order; features have mean 0 and spread 1 unless told otherwise."""
    x, y = _table(name)
    return (standard(x) if scaled else x.clone()), y.clone()


def standard(x: Tensor) -> Tensor:
    """Mean 0 and spread 1 in every column."""
    return (x - x.mean(0)) / x.std(0)


def housing(count: int = 1000, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Houses as in a census: income, age, rooms, people, latitude, longitude in their own units; prices in dollars, (count,)."""
    g = torch.Generator().manual_seed(seed)
    income = torch.exp(torch.randn(count, generator=g) * 0.45 + 1.2)  # in 10,000 dollars
    age = torch.rand(count, generator=g) * 50 + 1
    rooms = torch.exp(torch.randn(count, generator=g) * 0.25 + 1.6)
    people = torch.exp(torch.randn(count, generator=g) * 0.7 + 7)  # in the block
    north = torch.rand(count, generator=g) * 9 + 32.5
    west = -(torch.rand(count, generator=g) * 9 + 115)
    coast = torch.exp(-(((north - 37) / 3) ** 2) - ((west + 122) / 2) ** 2)
    price = 40_000 * income + 120_000 * coast + 6_000 * rooms + 500 * age + 20_000 * torch.randn(count, generator=g)
    return torch.stack([income, age, rooms, people, north, west], dim=1), price


def pictures(count: int = 600, *, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Colour pictures in [0, 1] of a disc, a square or a cross on a textured ground: (image, class, mask).

    The mask holds 0 for the ground and 1 + class on the figure.
    """
    g = torch.Generator().manual_seed(seed)
    rows = torch.arange(size, dtype=torch.float32)[None, :, None]
    columns = torch.arange(size, dtype=torch.float32)[None, None, :]
    kind = torch.randint(3, (count,), generator=g)
    middle = torch.rand(count, 2, generator=g) * (size - 8) + 4
    radius = (torch.rand(count, generator=g) * 1.5 + 2.5)[:, None, None]
    dy, dx = (rows - middle[:, :1, None]).abs(), (columns - middle[:, 1:, None]).abs()
    disc = dy**2 + dx**2 <= radius**2
    square = torch.maximum(dy, dx) <= radius * 0.85
    cross = (torch.minimum(dy, dx) <= 1.0) & (torch.maximum(dy, dx) <= radius)
    figure = torch.where((kind == 0)[:, None, None], disc, torch.where((kind == 1)[:, None, None], square, cross))
    ground = torch.rand(count, 3, 1, 1, generator=g) * 0.35 + 0.15
    colour = torch.rand(count, 3, 1, 1, generator=g) * 0.35 + 0.55
    shade = (columns / size * 0.15).expand(count, size, size)[:, None]
    image = torch.where(figure[:, None], colour, ground + shade)
    image = (image + torch.randn(image.shape, generator=g) * 0.04).clamp(0, 1)
    return image, kind, figure.long() * (kind[:, None, None] + 1)


def tags(count: int = 800, *, labels: int = 6, rate: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Twelve features and several yes-or-no labels that depend on them; `rate` moves how many are yes (0: about half)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 12, generator=g)
    score = x @ torch.randn(12, labels, generator=g) / 3 + (x[:, :labels] * x[:, -labels:]) / 2
    return x, (score + rate + torch.randn(count, labels, generator=g) * 0.3 > 0).float()


def batches(x: Tensor, y: Tensor, size: int = 64, *, shuffle: bool = True, seed: int = 0) -> DataLoader:
    """A loader over two tensors, shuffled by a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(x, y), batch_size=size, shuffle=shuffle, generator=generator)
