"""8-bit images as the data set keeps them in memory, against what its items give: levels lost, bright turned dark."""

from __future__ import annotations

import sys
from collections.abc import Sized
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nncheck.errors import OutOfTime
from nncheck.lab.sandbox import Sandbox
from nncheck.registry import probe
from nncheck.survey.data_state import reading

# Items compared, spread over the data set.
ITEMS = 64
# The darker half of an item's pixels must keep its order to this correlation: else it was cropped, turned or mixed, and pixels of
# the two cannot be compared.
IN_PLACE = 0.99


@dataclass(frozen=True, kw_only=True)
class StoredPixels:
    """name: the attribute that keeps the images. items: how many were compared, in_place: how many of them pixel by pixel.

    stored_levels, given_levels: different values in an item, median. turned: median share, over the items in place that have any,
    of pixels brighter than all of the darker half as stored, but darker than that half's mean as given. turned_items: such items.
    """

    name: str
    items: int
    stored_levels: float
    given_levels: float
    in_place: int
    turned: float
    turned_items: int


_NOTHING = StoredPixels(
    name="", items=0, stored_levels=0.0, given_levels=0.0, in_place=0, turned=0.0, turned_items=0,
)  # fmt: skip


@probe
def stored_pixels(sandbox: Sandbox) -> StoredPixels:
    """Ask the data set for some items. No pass of the model."""
    loader = sandbox.setup.train_loader
    dataset = getattr(loader, "dataset", None)
    found = _images(dataset)
    if found is None:
        return _NOTHING
    name, images = found
    stored_levels, given_levels, turned = [], [], []
    with reading(sandbox, loader):
        for index in range(0, len(images), max(1, len(images) // ITEMS)):
            sandbox.check_time()
            pair = _pair(dataset, images, index)
            if pair is None:
                continue
            stored, given = pair
            stored_levels.append(torch.unique(stored).numel())
            given_levels.append(torch.unique(given).numel())
            share = _turned(stored, given)
            if share is not None:
                turned.append(share)
    if not stored_levels:
        return _NOTHING
    some = [share for share in turned if share > 0]
    return StoredPixels(
        name=name,
        items=len(stored_levels),
        stored_levels=median(stored_levels),
        given_levels=median(given_levels),
        in_place=len(turned),
        turned=median(some) if some else 0.0,
        turned_items=len(some),
    )


def _images(dataset: Any) -> tuple[str, Any] | None:
    """An attribute with one 8-bit array for each item."""
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__dict__"):
        return None
    for name, value in vars(dataset).items():
        array = isinstance(value, Tensor) or type(value).__module__ == "numpy"
        if array and str(getattr(value, "dtype", "")).endswith("uint8") and getattr(value, "ndim", 0) >= 3:
            try:
                if len(value) == len(dataset):
                    return name, value
            except TypeError:  # a class may define __len__ and have none
                return None
    return None


def _pair(dataset: Any, images: Any, index: int) -> tuple[Tensor, Tensor] | None:
    """An item as stored and as given, channels first, as (channels, pixels)."""
    try:
        item = dataset[index]
    except (OutOfTime, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001  # an item that fails is told where the loader meets it
        return None
    given = item[0] if isinstance(item, (tuple, list)) and item else item
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(given, numpy.ndarray) and given.dtype.kind in "fiu":
        given = torch.from_numpy(numpy.ascontiguousarray(given))
    if not isinstance(given, Tensor) or given.is_complex():
        return None
    raw = images[index]
    stored = (raw if isinstance(raw, Tensor) else torch.from_numpy(raw.copy())).double()
    given = given.detach().double().cpu().squeeze()
    stored = stored.squeeze()
    if stored.shape != given.shape and stored.ndim == 3:
        stored = stored.permute(2, 0, 1)
    if stored.shape != given.shape or stored.ndim not in (2, 3):
        return None
    if stored.ndim == 2:
        stored, given = stored[None], given[None]
    return stored.flatten(1), given.flatten(1)


def _turned(stored: Tensor, given: Tensor) -> float | None:
    """Share of bright pixels that became darker than the dark half's mean; None if pixels are not in their places."""
    shares = []
    for raw, made in zip(stored, given, strict=True):
        middle = raw.median()
        dark = raw <= middle
        if int(dark.sum()) < 8 or float(raw[dark].std()) == 0 or float(made[dark].std()) == 0:
            continue
        if float(torch.corrcoef(torch.stack([raw[dark], made[dark]]))[0, 1]) < IN_PLACE:
            return None
        shares.append(float(((raw > middle) & (made < made[dark].mean())).double().mean()))
    return sum(shares) / len(shares) if shares else None
