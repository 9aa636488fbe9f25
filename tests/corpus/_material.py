"""What the set-ups on sequences, sets and pictures learn from: made on the spot, the same every time, and learnable."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F

PAD, BOS, EOS = 0, 1, 2

_GOOD = ["good", "great", "lovely", "superb", "warm", "funny", "bright"]
_BAD = ["bad", "poor", "dull", "awful", "cold", "slow", "dreadful"]
_PLAIN = [
    "the",
    "film",
    "plot",
    "actor",
    "scene",
    "ending",
    "music",
    "was",
    "felt",
    "seemed",
    "and",
    "with",
    "a",
    "very",
    "rather",
    "story",
]
REVIEW_WORDS = ["<pad>", "<unk>", *_GOOD, *_BAD, *_PLAIN]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prose(sentences: int = 700, seed: int = 0) -> str:
    """Small sentences of a grammar: articles, adjectives, nouns, verbs that agree in number."""
    pick = random.Random(seed)
    nouns, verbs = ["cat", "dog", "bird", "child", "baker"], ["sees", "likes", "follows", "finds"]
    adjectives = ["old", "small", "happy", "quiet"]
    out = []
    for _ in range(sentences):
        subject, verb, thing = pick.choice(nouns), pick.choice(verbs), pick.choice(nouns)
        first = f"{pick.choice(adjectives)} " if pick.random() < 0.5 else ""
        second = f"{pick.choice(adjectives)} " if pick.random() < 0.3 else ""
        out.append(f"the {first}{subject} {verb} a {second}{thing}. ")
    return "".join(out)


def characters(text: str) -> tuple[Tensor, list[str]]:
    """Ids of the characters of a text, and the alphabet."""
    alphabet = sorted(set(text))
    index = {letter: i for i, letter in enumerate(alphabet)}
    return torch.tensor([index[letter] for letter in text]), alphabet


def windows(ids: Tensor, length: int, stride: int) -> Tensor:
    """Every `stride`-th window: (windows, length)."""
    return ids.unfold(0, length, stride).clone()


def chain(samples: int = 800, length: int = 16, vocabulary: int = 20, seed: int = 0) -> Tensor:
    """Sequences of a Markov chain over `vocabulary` tokens from 3 up, each token with two or three likely followers."""
    g = seeded(seed)
    table = (3.0 * torch.randn(vocabulary, vocabulary, generator=seeded(99))).softmax(-1)
    token = torch.randint(vocabulary, (samples,), generator=g)
    steps = [token]
    for _ in range(length - 1):
        token = torch.multinomial(table[token], 1, generator=g).squeeze(1)
        steps.append(token)
    return torch.stack(steps, 1) + 3


def sentences(samples: int = 600, longest: int = 14, vocabulary: int = 20, seed: int = 0) -> list[Tensor]:
    """Chains of different lengths, from 4 tokens to `longest`."""
    whole = chain(samples, longest, vocabulary, seed)
    lengths = torch.randint(4, longest + 1, (samples,), generator=seeded(seed + 1)).tolist()
    return [row[:n] for row, n in zip(whole, lengths, strict=True)]


def reviews(samples: int = 800, seed: int = 0) -> list[tuple[list[str], int]]:
    """Word lists of 4 to 14 words with more praise than blame, or the other way round, in equal numbers."""
    pick = random.Random(seed)
    out = []
    for _ in range(samples):
        label = pick.randrange(2)
        many, few = (_GOOD, _BAD) if label else (_BAD, _GOOD)
        words = [pick.choice(many) for _ in range(pick.randint(2, 3))]
        words += [pick.choice(few)] * (pick.random() < 0.3)
        words += [pick.choice(_PLAIN) for _ in range(pick.randint(2, 10))]
        pick.shuffle(words)
        out.append((words, label))
    return out


def review_ids(samples: int = 800, longest: int = 14, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Reviews as ids padded with 0 (samples, longest), their mask, and their labels."""
    ids = torch.zeros(samples, longest, dtype=torch.long)
    labels = []
    for i, (words, label) in enumerate(reviews(samples, seed)):
        ids[i, : len(words)] = torch.tensor([REVIEW_WORDS.index(word) for word in words])
        labels.append(label)
    return ids, (ids != PAD).long(), torch.tensor(labels)


def additions(samples: int = 900, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`3+58` and the digits of the sum, as ids: digits are 3 to 12, plus is 13; sources are (samples, 5), targets (samples, 3)."""
    pick = random.Random(seed)
    sources, targets = [], []
    for _ in range(samples):
        a, b = pick.randrange(100), pick.randrange(100)
        text = f"{a:02d}+{b:02d}"
        sources.append([13 if letter == "+" else int(letter) + 3 for letter in text])
        targets.append([int(letter) + 3 for letter in f"{a + b:03d}"])
    return torch.tensor(sources), torch.tensor(targets)


def demand(steps: int = 1600, seed: int = 0, channels: int = 1) -> Tensor:
    """An hourly load: a day, half a day, and a slow autoregressive part; standardised: (steps, channels)."""
    g = seeded(seed)
    t = torch.arange(steps, dtype=torch.float32)
    columns = []
    for c in range(channels):
        day = torch.sin(2 * math.pi * (t + 5 * c) / 24) + 0.4 * torch.sin(4 * math.pi * t / 24 + c)
        slow, level = [], 0.0
        for shock in torch.randn(steps, generator=g).tolist():
            level = 0.8 * level + 0.25 * shock
            slow.append(level)
        columns.append(day + torch.tensor(slow))
    series = torch.stack(columns, 1)
    return (series - series.mean(0)) / series.std(0)


def pasts_and_futures(series: Tensor, past: int = 24, future: int = 4, stride: int = 2) -> tuple[Tensor, Tensor]:
    """Windows (windows, past, channels) and what comes after them (windows, future)."""
    both = series.unfold(0, past + future, stride).transpose(1, 2)
    return both[:, :past].clone(), both[:, past:, 0].clone()


def motions(
    samples: int = 600, steps: int = 20, channels: int = 6, classes: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Sensor traces: every class has its own frequency and mix of channels: (samples, steps, channels)."""
    g = seeded(seed)
    y = torch.arange(samples) % classes
    y = y[torch.randperm(samples, generator=g)]
    mix = torch.randn(classes, channels, generator=seeded(7))
    speed = 0.4 + 0.35 * y.float() + 0.05 * torch.randn(samples, generator=g)
    phase = 6.28 * torch.rand(samples, generator=g)
    wave = torch.sin(phase[:, None] + speed[:, None] * torch.arange(steps))
    x = wave[:, :, None] * mix[y][:, None, :] + 0.4 * torch.randn(samples, steps, channels, generator=g)
    return (x - x.mean((0, 1))) / x.std((0, 1)), y


def shapes(samples: int = 500, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Grey pictures with one square, disc or cross: (samples, 1, size, size), the kind, and its box (cx, cy, w, h) in 0..1."""
    g = seeded(seed)
    kind = torch.randint(3, (samples,), generator=g)
    radius = 2 + 2.5 * torch.rand(samples, generator=g)
    room = size - 2 * radius
    cx = radius + room * torch.rand(samples, generator=g)
    cy = radius + room * torch.rand(samples, generator=g)
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    dx, dy = (columns - cx[:, None, None]).abs(), (rows - cy[:, None, None]).abs()
    r = radius[:, None, None]
    square, disc = torch.maximum(dx, dy) <= r, (dx**2 + dy**2).sqrt() <= r
    cross = (torch.maximum(dx, dy) <= r) & (torch.minimum(dx, dy) <= r / 3)
    picture = torch.stack([square, disc, cross], 1)[torch.arange(samples), kind].float()
    picture = picture + 0.1 * torch.randn(samples, size, size, generator=g)
    picture = (picture - picture.mean()) / picture.std()
    box = torch.stack([cx, cy, 2 * radius, 2 * radius], 1) / size
    return picture[:, None], kind, box


def pictures(
    samples: int = 480, size: int = 16, channels: int = 3, classes: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """A smooth pattern per class, moved by up to two pixels, in noise; standardised."""
    g = seeded(seed)
    patterns = F.interpolate(
        torch.randn(classes, channels, 5, 5, generator=seeded(11)), size=size, mode="bilinear", align_corners=False
    )
    y = torch.randint(classes, (samples,), generator=g)
    shifts = torch.randint(-2, 3, (samples, 2), generator=g).tolist()
    x = torch.stack([patterns[c].roll(tuple(s), (1, 2)) for c, s in zip(y.tolist(), shifts, strict=True)])
    x = x + 0.5 * torch.randn(x.shape, generator=g)
    return (x - x.mean()) / x.std(), y


def rings(samples: int = 900, seed: int = 0) -> Tensor:
    """Points of two interleaved half circles, standardised: (samples, 2)."""
    g = seeded(seed)
    angle = math.pi * torch.rand(samples, generator=g)
    upper = torch.rand(samples, generator=g) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x, y], 1) + 0.06 * torch.randn(samples, 2, generator=g)
    return (points - points.mean(0)) / points.std(0)


def strokes(samples: int = 700, seed: int = 0) -> Tensor:
    """Pictures of 8 x 8 in 0..1 with one soft bar, lying or standing: (samples, 64)."""
    g = seeded(seed)
    where = 1 + 5 * torch.rand(samples, generator=g)
    width = 0.6 + 0.8 * torch.rand(samples, generator=g)
    line = torch.exp(-(((torch.arange(8.0) - where[:, None]) / width[:, None]) ** 2))
    ink = 0.7 + 0.3 * torch.rand(samples, 1, 1, generator=g)
    bars = line[:, :, None] * ink * torch.ones(1, 1, 8)
    standing = torch.rand(samples, generator=g) < 0.5
    return torch.where(standing[:, None, None], bars.transpose(1, 2), bars).reshape(samples, 64)


def table(samples: int = 800, width: int = 10, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normal columns, labelled by a bent function of some of them with a little noise."""
    g = seeded(seed)
    x = torch.randn(samples, width, generator=g)
    teacher = torch.randn(width, 12, generator=seeded(5)) / width**0.5
    scores = torch.tanh(2 * x @ teacher) @ torch.randn(12, classes, generator=seeded(6))
    return x, (scores + 0.2 * torch.randn(samples, classes, generator=g)).argmax(1)


def measured(samples: int = 800, width: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normal columns and a standardised, slightly noisy, bent function of them: (samples, 1)."""
    g = seeded(seed)
    x = torch.randn(samples, width, generator=g)
    w = torch.randn(width, generator=seeded(3)) / width**0.5
    y = x @ w + 0.6 * torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(samples, generator=g)
    return x, ((y - y.mean()) / y.std())[:, None]
