"""Images as a network is given them: are neighbours neighbours, is there detail in the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

# Smaller images have too few neighbours for a statement about them.
SMALLEST = 8
# Images looked at; enough for a standard error of a few percent.
MOST_IMAGES = 128
# A pixel is on a straight line between its neighbours if the second difference is below this part of the first.
STRAIGHT = 1e-3


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Images of shape (N, channels, height, width), or (N, height, width, channels) if `last`.

    across, down: mean logarithm, over images, of the difference between pixels 3 apart over that between pixels 1 apart, in a
    row and in a column; across_error, down_error: their standard errors. Negative: pixels 3 apart are more alike than neighbours.
    block: side of the squares of equal pixels that all images consist of; 1 if there are none. straight: share of the columns
    where all images are on straight lines between their neighbours.
    """

    last: bool
    channels: int
    height: int
    width: int
    images: int
    across: float
    across_error: float
    down: float
    down_error: float
    block: int
    straight: float


def picture(tensor: Tensor) -> Picture | None:
    """The measurements, or None if the tensor holds no images."""
    if tensor.ndim != 4 or not tensor.numel():
        return None
    last = tensor.size(3) in (1, 3, 4) and tensor.size(1) not in (1, 3, 4)
    x = (tensor.movedim(-1, 1) if last else tensor)[:MOST_IMAGES].double()
    if x.size(1) not in (1, 3, 4) or min(x.shape[2:]) < SMALLEST or not bool(torch.isfinite(x).all()):
        return None
    across, across_error = _lags(x)
    down, down_error = _lags(x.transpose(2, 3))
    return Picture(
        last=last,
        channels=x.size(1),
        height=x.size(2),
        width=x.size(3),
        images=x.size(0),
        across=across,
        across_error=across_error,
        down=down,
        down_error=down_error,
        block=min(_block(x), _block(x.transpose(2, 3))),
        straight=min(_straight(x), _straight(x.transpose(2, 3))),
    )


def _lags(x: Tensor) -> tuple[float, float]:
    """Differences at a distance of 3 against those at 1, along the last axis; images without any are left out."""
    one = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
    three = (x[..., 3:] - x[..., :-3]).abs().mean((1, 2, 3))
    some = (one > 0) & (three > 0)
    ratios = (three[some] / one[some]).log()
    if ratios.numel() < 2:
        return 0.0, math.inf
    return float(ratios.mean()), float(ratios.std()) / math.sqrt(ratios.numel())


def _block(x: Tensor) -> int:
    """The width of the runs of equal pixels along the last axis, the same in all images; 1 if there are none."""
    edges = (x[..., 1:] != x[..., :-1]).flatten(0, 2).any(0).nonzero().flatten() + 1
    return reduce(math.gcd, edges.tolist(), x.size(-1)) if edges.numel() else 1


def _straight(x: Tensor) -> float:
    """Share of the positions along the last axis where every image is straight: lines drawn between a few pixels."""
    first = x[..., 1:] - x[..., :-1]
    second = (first[..., 1:] - first[..., :-1]).abs().mean((0, 1, 2))
    slope = 0.5 * (first[..., 1:].abs() + first[..., :-1].abs()).mean((0, 1, 2))
    some = slope > 0  # beyond the outermost pixels an enlarged image is constant
    return float((second[some] < STRAIGHT * slope[some]).double().mean()) if bool(some.any()) else 0.0
