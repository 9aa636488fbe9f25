"""What can be done to a batch without knowing the user's code: its forms, its size, its parts, a part of its samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

# Names under which dict batches carry what is to be predicted (Hugging Face: labels, start/end_positions; others by survey).
TARGET_KEYS = (
    "labels", "label", "targets", "target", "y", "label_ids", "start_positions", "end_positions", "mask_labels",
    "class_labels", "next_sentence_label", "decoder_labels",
)  # fmt: skip


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The batch with `function` applied to every tensor in it; containers keep their types, the rest is shared."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(function, item) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_tensors(function, item) for item in batch)
    if isinstance(batch, dict):
        try:
            copy = batch.copy()
        except TypeError:
            copy = dict(batch)
        for key, item in batch.items():
            copy[key] = map_tensors(function, item)
        return copy
    if isinstance(batch, MutableMapping):  # transformers.BatchEncoding is a UserDict
        return {key: map_tensors(function, item) for key, item in batch.items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        changed = {f.name: map_tensors(function, getattr(batch, f.name)) for f in dataclasses.fields(batch) if f.init}
        return dataclasses.replace(batch, **changed)
    return batch


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a batch or model output, with a name such as `[0]`, `input_ids` or `.logits`."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, item in zip(value._fields, value, strict=True):
            yield from named_tensors(item, f"{name}.{field}" if name else str(field))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from named_tensors(item, f"{name}[{index}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from named_tensors(getattr(value, f.name), f"{name}.{f.name}" if name else f.name)


def split(batch: Any) -> tuple[Any, Any]:
    """(inputs, target) of a batch; target is None where the batch has none of its own.

    A pair is split in the middle, a dict at `TARGET_KEYS`, a one-tuple is its item, a tensor all input. A longer tuple is
    taken as inputs followed by one target; so is a named tuple. Other objects are all input.
    """
    if isinstance(batch, (list, tuple)):
        if len(batch) == 1:
            return batch[0], None
        if len(batch) == 2:
            return batch[0], batch[1]
        if len(batch) > 2:
            return tuple(batch[:-1]), batch[-1]
    if isinstance(batch, Mapping):
        keys = [key for key in TARGET_KEYS if key in batch]
        inputs = {key: item for key, item in batch.items() if key not in keys}
        target = {key: batch[key] for key in keys}
        return inputs, (target[keys[0]] if len(keys) == 1 else target or None)
    return batch, None


def with_inputs(batch: Any, change: Callable[[str, Tensor], Tensor]) -> Any:
    """The batch with `change(name, tensor)` applied to its input tensors and its target left alone."""

    def walk(value: Any, name: str) -> Any:
        names = iter([n for n, _ in named_tensors(value, name)])
        return map_tensors(lambda t: change(next(names), t), value)

    if isinstance(batch, (list, tuple)) and len(batch) >= 2:
        changed = [*(walk(item, f"[{i}]") for i, item in enumerate(batch[:-1])), batch[-1]]
        return type(batch)(*changed) if hasattr(batch, "_fields") else type(batch)(changed)
    if isinstance(batch, Mapping):
        copy = dict(batch)
        for key, item in batch.items():
            if key not in TARGET_KEYS:
                copy[key] = walk(item, str(key))
        return copy
    return walk(batch, "")


def size(batch: Any) -> int:
    """Samples in a batch: the length of the target's first dimension if it agrees with some input's, else of the first
    input's; 1 if there is no tensor with a dimension."""
    inputs, target = split(batch)
    lengths = [t.size(0) for _, t in named_tensors(inputs) if t.ndim]
    targets = [t.size(0) for _, t in named_tensors(target) if t.ndim]
    # A sequence-first input (time, batch, ...) is told from its target (batch, ...) by the dimension both share.
    if targets and targets[0] not in lengths:
        shared = [t for _, t in named_tensors(inputs) if targets[0] in t.shape]
        if shared:
            return targets[0]
    return lengths[0] if lengths else (targets[0] if targets else 1)


def take(batch: Any, indices: Tensor) -> Any:
    """The batch reduced to the samples `indices` (a 1-D integer tensor), along each tensor's batch dimension.

    The batch dimension is the first one as long as `size(batch)`; tensors without one are left alone.
    """
    count = size(batch)

    def pick(tensor: Tensor) -> Tensor:
        if not tensor.ndim or count not in tensor.shape:
            return tensor
        return tensor.index_select(tuple(tensor.shape).index(count), indices.to(tensor.device))

    return map_tensors(pick, batch)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`; an object with its own `.to` (PyG) is asked itself."""
    if not isinstance(batch, (Tensor, list, tuple, Mapping)) and hasattr(batch, "to"):
        return batch.to(device)
    return map_tensors(lambda t: t.to(device), batch)


def describe(batch: Any) -> str:
    """A batch in a few words: `[0] is float32[64, 1, 8, 8], [1] is int64[64]`."""
    parts = [f"{name or 'it'} is {describe_tensor(t)}" for name, t in named_tensors(batch)]
    if parts:
        return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")
    return f"a {type(batch).__name__} without tensors: {' '.join(repr(batch).split())[:80]}"


def describe_tensor(tensor: Tensor) -> str:
    """`float32[64, 1, 8, 8]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
