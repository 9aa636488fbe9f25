"""Small data sets whose answer can be learned, made on the spot."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(samples: int = 1024, width: int = 16, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Normal inputs, labelled by a random linear teacher."""
    g = generator()
    x = torch.randn(samples, width, generator=g)
    return x, (x @ torch.randn(width, classes, generator=g)).argmax(1)


def regression(samples: int = 1024, width: int = 16) -> tuple[Tensor, Tensor]:
    """Normal inputs, standardised target of shape (samples,)."""
    g = generator()
    x = torch.randn(samples, width, generator=g)
    y = x @ torch.randn(width, generator=g) / width**0.5 + 0.2 * torch.randn(samples, generator=g)
    return x, (y - y.mean()) / y.std()


def images(samples: int = 512, classes: int = 4, channels: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    """A smooth pattern per class plus noise."""
    g = generator()
    patterns = torch.nn.functional.interpolate(
        torch.randn(classes, channels, 4, 4, generator=g), size=size, mode="bilinear", align_corners=False
    )
    y = torch.randint(classes, (samples,), generator=g)
    x = patterns[y] + 0.5 * torch.randn(samples, channels, size, size, generator=g)
    return (x - x.mean()) / x.std(), y


def tokens(samples: int = 1024, length: int = 16, vocabulary: int = 40, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Token ids from 1 up, drawn from a distribution of their own for every class."""
    g = generator()
    tables = torch.randn(classes, vocabulary - 1, generator=g).mul(1.5).softmax(-1)
    y = torch.randint(classes, (samples,), generator=g)
    return torch.multinomial(tables[y], length, replacement=True, generator=g) + 1, y


def chains(samples: int = 1024, length: int = 16, vocabulary: int = 24) -> Tensor:
    """Sequences of a Markov chain: each token makes three others likely."""
    g = generator()
    table = (torch.randn(vocabulary, vocabulary, generator=g) * 2.5).softmax(-1)
    token = torch.randint(vocabulary, (samples,), generator=g)
    steps = [token]
    for _ in range(length - 1):
        token = torch.multinomial(table[token], 1, generator=g).squeeze(1)
        steps.append(token)
    return torch.stack(steps, 1)


def waves(samples: int = 1024, steps: int = 16) -> tuple[Tensor, Tensor]:
    """Noisy sines (samples, steps, 1) and their next value (samples,)."""
    g = generator()
    phase = 6.28 * torch.rand(samples, 1, generator=g)
    speed = 0.2 + 0.4 * torch.rand(samples, 1, generator=g)
    series = torch.sin(phase + speed * torch.arange(steps + 1)) + 0.05 * torch.randn(samples, steps + 1, generator=g)
    return series[:, :-1, None], series[:, -1]


def loader(*tensors: Tensor, batch_size: int = 32) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, shuffle=True)
