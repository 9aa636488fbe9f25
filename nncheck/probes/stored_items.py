"""A few items of the data set as they are stored, beside what its transform makes of them; and ids as the text they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import OutOfTime
from nncheck.lab import batch as batches
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.preview import preview
from nncheck.registry import probe
from nncheck.survey.data_state import reading
from nncheck.verdict import Sample, Samples

# Items shown, and tokens of each that are written out.
ITEMS, TOKENS = 6, 40
# Where data sets keep what turns an item into the network's input.
_TRANSFORMS = ("transform", "transforms")
_VOCABULARIES = ("tokenizer", "vocab", "itos", "stoi", "vocabulary", "id2word", "idx2char", "itoc", "chars")


@dataclass(frozen=True, kw_only=True)
class StoredItems:
    """items: pictures of the first items as stored, and as transformed; None if the data set has no transform that can be left
    out. decoded: the first ids of the first batch as text; None if there is no integer input or no vocabulary is known.
    """

    items: Samples | None
    decoded: Samples | None


@probe
def stored_items(sandbox: Sandbox) -> StoredItems:
    """Ask the data set for its first items, with and without its transform. No pass of the model."""
    loader = sandbox.setup.train_loader
    dataset = getattr(loader, "dataset", None)
    with reading(sandbox, loader):
        items = _items(dataset)
        decoded = _decoded(dataset, sandbox.feed.first)
    return StoredItems(items=items, decoded=decoded)


def _items(dataset: Any) -> Samples | None:
    name = next((n for n in _TRANSFORMS if callable(getattr(dataset, "__dict__", {}).get(n))), None)
    if name is None or not hasattr(dataset, "__getitem__"):
        return None
    given = [_item(dataset, i) for i in range(ITEMS)]
    transform = vars(dataset)[name]
    try:
        vars(dataset)[name] = None
        stored = [_item(dataset, i) for i in range(ITEMS)]
    finally:
        vars(dataset)[name] = transform
    shown = []
    for i, (raw, made) in enumerate(zip(stored, given, strict=True)):
        if raw is None or made is None:
            continue
        shown += [_sample(raw, f"item {i} as stored"), _sample(made, f"item {i} as given")]
    return (
        Samples(title="Items as the data set stores them, and as its transform gives them", samples=tuple(shown))
        if shown
        else None
    )


def _item(dataset: Any, index: int) -> Tensor | None:
    """The first part of an item as a tensor, None if it cannot be had or is no array."""
    try:
        item = dataset[index]
    except (OutOfTime, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001  # a data set need not work without its transform; then there is nothing to show
        return None
    first = item[0] if isinstance(item, (tuple, list)) and item else item
    if isinstance(first, Tensor):
        return first.detach().cpu()
    numpy = sys.modules.get("numpy")
    if numpy is None or not (hasattr(first, "__array__") or hasattr(first, "__array_interface__")):
        return None
    array = numpy.asarray(first)
    return torch.from_numpy(array.copy()) if array.dtype.kind in "fiub" else None


def _sample(tensor: Tensor, caption: str) -> Sample:
    shown = preview(tensor[None], tensor[None], 1) if tensor.ndim else None
    text = f"{caption}: {batches.describe_tensor(tensor)}"
    if tensor.numel():
        text += f", {float(tensor.double().min()):.3g} to {float(tensor.double().max()):.3g}"
    if shown is None:
        return Sample(caption=text, text=str(tensor.tolist())[:80])
    return Sample(caption=text, pixels=shown.samples[0].pixels, text=shown.samples[0].text)


def _decoded(dataset: Any, batch: Any) -> Samples | None:
    decode = _decoder(dataset)
    if decode is None:
        return None
    inputs, _ = batches.split(batch)
    found = [(n, t) for n, t in batches.named_tensors(inputs) if t.ndim == 2 and t.dtype in (torch.int32, torch.int64)]
    if not found:
        return None
    name, ids = found[0]
    samples = []
    for i, row in enumerate(ids[:ITEMS].tolist()):
        try:
            text = decode(row[:TOKENS])
        except (OutOfTime, KeyboardInterrupt):
            raise
        except Exception:  # noqa: BLE001  # what looked like a vocabulary is none
            return None
        samples.append(Sample(caption=f"sample {i}", text=text[:400]))
    return Samples(title=f"The first tokens of `{name or 'the input'}`, decoded", samples=tuple(samples))


def _decoder(dataset: Any) -> Callable[[list[int]], str] | None:
    """What turns ids into text, by the names people give it."""
    for name in _VOCABULARIES:
        value = getattr(dataset, name, None)
        if callable(getattr(value, "decode", None)):
            return partial(_spoken, value)
        if isinstance(value, str) or (isinstance(value, (list, tuple)) and all(type(v) is str for v in value)):
            return partial(_joined, value)
        if isinstance(value, Mapping) and value:
            key, item = next(iter(value.items()))
            if type(key) is int and type(item) is str:
                return partial(_joined, value)
            if type(key) is str and type(item) is int:
                return partial(_joined, {number: word for word, number in value.items()})
    return None


def _spoken(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def _joined(names: Any, ids: list[int]) -> str:
    words = [names[i] for i in ids]
    return ("" if all(len(word) == 1 for word in words) else " ").join(words)
