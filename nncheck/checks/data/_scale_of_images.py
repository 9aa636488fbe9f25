"""What can be wrong with images before the first layer: order of the axes, 8-bit values, lost detail."""

from __future__ import annotations

import math

from nncheck.probes.network_input import Entry
from nncheck.probes.stored_pixels import StoredPixels
from nncheck.survey.pictures import Picture
from nncheck.verdict import Place, Remedy, Verdict, failed, warned

# Neighbours in a row must be further apart than pixels three away by this factor, in rows and in columns, and by SURE standard
# errors: in an image of three channels put into the wrong order, three steps lead to the neighbour of the same colour.
FURTHER, SURE = 0.95, 6.0
# 8-bit values: whole numbers up to 255, as many different ones and as widely spread as no count or category is; sensors of 16
# grey levels (0..16) stay below.
BYTE, BYTE_LEVELS, BYTE_SPREAD, BYTE_VALUES = 255, 16, 10.0, 64
# 1/255 divided by 255 again is a multiple of this; all values then lie below 0.004.
TWICE = 1 / (255 * 255)
TINY = 0.01
# Images with pixels that turned from bright to dark: a share of all, and so many, that no odd one explains.
TURNED, FEWEST_TURNED = 0.1, 4
# Pretrained networks were trained on sides of 224 to 384; an image that was enlarged eightfold to 256 and more has no detail there.
LARGE_SIDE, BLOCK, STRAIGHT = 256, 8, 0.85


def images(entry: Entry) -> Verdict | None:
    """The first fault found in one entrance's images."""
    seen = entry.picture
    if seen is not None:
        found = _scrambled(entry, seen) or _channels_last(entry, seen)
        if found is not None:
            return found
    return _bytes(entry) or _twice(entry) or (_enlarged(entry, seen) if seen else None)


def _scrambled(entry: Entry, seen: Picture) -> Verdict | None:
    limit = math.log(FURTHER)
    if seen.channels != 3 or seen.last or entry.kind != "conv":
        return None
    if seen.across + SURE * seen.across_error > limit or seen.down + SURE * seen.down_error > limit:
        return None
    across, down = math.exp(seen.across), math.exp(seen.down)
    return failed(
        f"pixels three apart differ {across:.2f} times as much as neighbours in a row, {down:.2f} times in a column, "
        f"over {seen.images} images of {seen.channels} x {seen.height} x {seen.width}",
        expected="neighbours are more alike than pixels further apart, in every channel",
        summary="the images' channels and pixels are in the wrong order: (height, width, channels) was reshaped, not permuted",
        numbers={"across": across, "down": down},
        causes=("`x.reshape(N, 3, H, W)` or `.view(...)` of images stored as (N, H, W, 3)",),
        remedies=(Remedy(text="move the axis instead", code="x = x.permute(0, 3, 1, 2)"),),
    )


def _channels_last(entry: Entry, seen: Picture) -> Verdict | None:
    # A square image whose rows are taken for channels; other shapes may be channels x time x axes.
    if not seen.last or entry.kind != "conv" or seen.height != seen.width or seen.channels == 1:
        return None
    return failed(
        f"{_name(entry)} is given {_shape(entry)}: {seen.height} channels of {seen.height} x {seen.channels}",
        expected=f"channels in dimension 1: (batch, {seen.channels}, {seen.height}, {seen.width})",
        summary=f"the images' rows are taken for channels: they are (height, width, {seen.channels}), a convolution wants "
        "the channels first",
        causes=("images stored as (N, H, W, C) are given as they are",),
        remedies=(
            Remedy(
                text=f"move the axis, and give the convolution {seen.channels} input channels",
                code="x = x.permute(0, 3, 1, 2)",
            ),
        ),
    )


def _bytes(entry: Entry) -> Verdict | None:
    if entry.normalised or not is_bytes(entry):
        return None
    return failed(
        f"{_name(entry)} is given whole numbers from {entry.low:g} to {entry.high:g}, mean {entry.mean:.3g}, "
        f"standard deviation {entry.std:.3g}",
        expected="values of about the size of one: 0..1, or mean 0 and standard deviation 1",
        summary=f"the network is given 8-bit values up to {entry.high:g} as they are: nothing divides them by 255",
        numbers={"mean": entry.mean, "std": entry.std, "high": entry.high},
        causes=("the data set makes floats of 8-bit images without dividing: `.float()` where `ToTensor()` was meant",),
        remedies=(
            Remedy(text="divide by 255, then standardise", code="x = x.float() / 255\nx = (x - x.mean()) / x.std()"),
        ),
    )


def is_bytes(entry: Entry) -> bool:
    """Whether a layer is given 8-bit images or signals as they were stored."""
    return (
        entry.whole == 1
        and entry.low >= 0
        and BYTE / 2 < entry.high <= BYTE
        and entry.std > BYTE_SPREAD
        and (entry.distinct or BYTE_LEVELS) > BYTE_LEVELS
        and math.prod(entry.shape[1:]) >= BYTE_VALUES
    )


def _twice(entry: Entry) -> Verdict | None:
    if entry.low < 0 or not 0 < entry.high <= 1 / BYTE + 1e-6 or not entry.bytes_twice:
        return None
    verdict = warned if entry.normalised else failed
    return verdict(
        f"{_name(entry)} is given values from {entry.low:.3g} to {entry.high:.3g}, standard deviation {entry.std:.2g}: "
        "multiples of 1/65025",
        expected="values of about the size of one: 0..1, or mean 0 and standard deviation 1",
        summary=f"the images were divided by 255 twice: the largest value is {entry.high:.2g}",
        numbers={"mean": entry.mean, "std": entry.std, "high": entry.high},
        causes=(
            "`/ 255` after `ToTensor()`, which divides already",
            "the data set divides, and the model divides again",
        ),
        remedies=(Remedy(text="take one of the two divisions by 255 out"),),
    )


def stored(seen: StoredPixels) -> Verdict | None:
    """Levels that are lost, or wrapped around, between the images kept and the items given."""
    if seen.stored_levels >= BYTE_LEVELS and seen.given_levels <= 2:
        return failed(
            f"an image of `{seen.name}` has {seen.stored_levels:g} different values as stored and {seen.given_levels:g} as given "
            f"(median of {seen.items})",
            expected="as many different values as are stored",
            summary=f"the images lose their grey levels on the way: {seen.given_levels:g} of {seen.stored_levels:g} are left",
            numbers={"stored_levels": seen.stored_levels, "given_levels": seen.given_levels},
            causes=("a division of integers: `image // 255`, or `.to(uint8)` after scaling to 0..1",),
            remedies=(Remedy(text="divide as floats", code="x = image.float() / 255"),),
        )
    if seen.turned_items < max(FEWEST_TURNED, TURNED * seen.in_place):
        return None
    return failed(
        f"in {seen.turned_items} of {seen.in_place} images bright pixels are dark as given, {100 * seen.turned:.2g} % of an "
        "image in the median, while the darker half keeps its order",
        expected="brighter pixels stay the brighter ones",
        summary=f"8-bit values wrap around: {100 * seen.turned:.2g} % of the pixels turn from bright to dark",
        numbers={"turned": seen.turned, "items": float(seen.turned_items)},
        causes=("brightness or contrast is changed in uint8, where 200 + 100 is 44",),
        remedies=(
            Remedy(
                text="compute in a wider type and clip before going back to 8 bit",
                code="np.clip(image.astype(np.int16) + light, 0, 255).astype(np.uint8)",
            ),
        ),
    )


def _enlarged(entry: Entry, seen: Picture) -> Verdict | None:
    side = min(seen.height, seen.width)
    if side < LARGE_SIDE or (seen.block < BLOCK and seen.straight < STRAIGHT):
        return None
    how = (
        f"consist of squares of {seen.block} x {seen.block} equal pixels"
        if seen.block >= BLOCK
        else f"are straight lines between few pixels in {100 * seen.straight:.0f} % of their columns"
    )
    return warned(
        f"images of {seen.height} x {seen.width} {how}",
        expected=f"detail in the pixels, or a side near {side // BLOCK}",
        summary=f"small images were enlarged to {seen.height} x {seen.width}: there is no detail in the pixels, only their cost",
        causes=("the transform resizes to a side that is far larger than the stored images",),
        remedies=(Remedy(text=f"resize to the side the model was made for, e.g. {max(32, side // BLOCK)}"),),
    )


def _name(entry: Entry) -> str:
    return f"`{entry.layer}`" if entry.layer else "the first layer"


def _shape(entry: Entry) -> str:
    return "(" + ", ".join(map(str, entry.shape)) + ")"


def where(entry: Entry) -> tuple[Place, ...]:
    """The line of the layer."""
    return (entry.place,) if entry.place is not None else ()
