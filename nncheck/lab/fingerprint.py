"""64-bit fingerprints: of every row of a tensor at once, and of anything a data set may give."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# splitmix64's multipliers (Steele, Lea and Flood 2014) and its increment, as signed numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
# Rows are hashed in pieces of this many bytes, so that a batch of large images needs no large copies.
_PIECE = 1 << 22


def rows(tensor: Tensor) -> Tensor:
    """One int64 for each row (dimension 0) of a dense tensor, of its exact bits: equal rows, equal numbers.

    Two different rows share a number with chance 2**-64; among a million rows any two do with chance 3e-8.
    """
    count = tensor.size(0)
    if not count:
        return torch.empty(0, dtype=torch.int64)
    flat = tensor.detach().cpu().reshape(count, -1)
    if flat.is_floating_point():
        flat = flat + 0  # -0.0 becomes 0.0
    if flat.dtype in (torch.bool, torch.uint8, torch.int8):
        octets = flat.view(torch.uint8)
    else:
        octets = _packed(flat).view(torch.uint8).reshape(count, -1)
    missing = -octets.size(1) % 8
    if missing or not octets.size(1):
        octets = torch.nn.functional.pad(octets, (0, missing or 8))
    words = octets.contiguous().view(torch.int64)  # (rows, words)
    keys = _mix(torch.arange(1, words.size(1) + 1) * _GOLDEN)
    step = max(1, _PIECE // max(1, 8 * words.size(1)))
    return torch.cat([_mix(_scramble(piece ^ keys).sum(1)) for piece in torch.split(words, step)])


def _packed(tensor: Tensor) -> Tensor:
    """The same values without gaps. `contiguous()` leaves one element cut out of a column as it is, stride and all."""
    if tensor.numel() == 1:
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()


def joined(*columns: Tensor) -> Tensor:
    """The fingerprints of rows that consist of several parts, from those of the parts, in order."""
    total = torch.zeros_like(columns[0])
    for column in columns:
        total = _mix(total * _GOLDEN + column)
    return total


def of(value: Any) -> str:
    """A fingerprint of an item, a batch or an output: tensors, arrays, images, numbers, text, and containers of them.

    What is none of these counts by its type only: an object's address says nothing about its content.
    """
    digest = hashlib.blake2b(digest_size=8)
    for piece in _pieces(value):
        digest.update(piece)
        digest.update(b"|")
    return digest.hexdigest()


def _scramble(words: Tensor) -> Tensor:
    """One round, in place: every bit of a word reaches many of its sum; the sum is mixed in full afterwards."""
    words ^= words >> 32  # floats such as 1.0 differ in their high bits only, which a product would leave up there
    words *= _FIRST
    words ^= words >> 29
    words *= _SECOND
    return words


def _mix(x: Tensor) -> Tensor:
    x = (x ^ (x >> 30)) * _FIRST
    x = (x ^ (x >> 27)) * _SECOND
    return x ^ (x >> 31)


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
        if dense.numel() and not dense.is_meta:
            yield _packed(dense.cpu()).reshape(-1).view(torch.uint8).numpy().tobytes()
    elif value is None or isinstance(value, (bool, int, float, complex, str)):
        yield repr(value).encode(errors="surrogatepass")
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield repr(key).encode(errors="surrogatepass") if isinstance(key, (str, int)) else b"key"
            yield from _pieces(item)
    elif isinstance(value, (list, tuple)):
        yield f"[{len(value)}".encode()
        for item in value:
            yield from _pieces(item)
    elif callable(getattr(value, "tobytes", None)):  # arrays and NumPy's numbers, PIL images
        yield str(getattr(value, "shape", getattr(value, "size", ""))).encode()
        yield value.tobytes()
    elif hasattr(value, "__dict__") and not callable(value):
        for name, item in vars(value).items():
            yield name.encode()
            yield from _pieces(item)
    else:
        yield type(value).__name__.encode()
