"""Every sample as a few numbers: fingerprints of what it holds, its label, a sketch of where it lies. In the order of the pass."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import torch
from torch import Tensor

from nncheck.lab import fingerprint
from nncheck.survey.features import CHUNK
from nncheck.survey.walk import Part, SeenBatch

# Sketches: so many random projections of so many values of the first float input, for so many samples of the pass.
SKETCH, SKETCHED_VALUES, MOST_SKETCHED = 16, 2048, 16_384
# Of tables, so many rows and columns are kept: 4 MB.
MOST_ROWS, MOST_COLUMNS = 4096, 256
# A block of a sequence: this share of its steps, but at least so many. Two windows that overlap by more share blocks.
BLOCK_SHARE, LEAST_BLOCK = 4, 3
# Different values of a step are counted up to this number: in data of a few grey levels or codes, blocks are alike by chance.
MOST_STEPS = 8192


@dataclass(frozen=True, kw_only=True)
class SampleMarks:
    """The samples of a pass, in its order; each array holds one entry a sample (or none at all).

    sizes: samples in each batch. values: numbers in one sample's inputs, 0 if samples differ in that.
    inputs, targets: 64-bit fingerprints. label: a scalar target's value; whole: whether all are whole numbers.
    blocks: for the first samples the smallest fingerprint among the blocks of `block` consecutive steps, of `steps` in a float
    sequence, and at which step it begins (offsets); distinct_steps: how many different steps were seen, counted up to 8192.
    sketch: `SKETCH` numbers for each of the first `sketched` samples: distances between them estimate those between samples.
    table: the first rows of a float table of `columns` columns; of a series, its last step.
    """

    sizes: tuple[int, ...]
    values: int
    kind: str
    inputs: array[int]
    targets: array[int]
    label: array[float]
    whole: bool
    blocks: array[int]
    offsets: array[int]
    block: int
    steps: int
    distinct_steps: int
    sketch: array[float]
    sketched: int
    table: array[float]
    columns: int

    @property
    def count(self) -> int:
        return len(self.inputs)


class Samples:
    """An accumulator of `SampleMarks`."""

    def __init__(self) -> None:
        self._held: list[SeenBatch] = []
        self._held_values = 0
        self._sizes: list[int] = []
        self._inputs, self._targets, self._blocks, self._offsets = array("q"), array("q"), array("q"), array("q")
        self._label, self._sketch, self._table = array("d"), array("f"), array("f")
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()
        self._kind = ""
        self._whole = True
        self._scalar = True
        self._targeted = True
        self._block = self._steps = self._columns = 0
        self._different: set[int] = set()
        self._rows: tuple[Tensor, Tensor] | None = None

    def add(self, index: int, seen: SeenBatch) -> None:
        if not seen.inputs:
            return
        self._sizes.append(seen.size)
        if self._held and not _alike(self._held[-1], seen):
            self._flush()
        small = sum(p.rows.numel() for p in seen.inputs) < CHUNK
        self._held.append(_copied(seen) if small else seen)
        self._held_values += sum(p.rows.numel() for p in seen.inputs)
        if self._held_values >= CHUNK:
            self._flush()

    def result(self) -> SampleMarks:
        self._flush()
        same = len(self._shapes) == 1
        shape = next(iter(self._shapes)) if same else ()
        count = len(self._inputs)
        return SampleMarks(
            sizes=tuple(self._sizes),
            values=sum(torch.Size(s).numel() for s in shape),
            kind=self._kind,
            inputs=self._inputs,
            targets=self._targets if self._targeted else array("q"),
            label=self._label if self._scalar and self._targeted else array("d"),
            whole=self._whole,
            blocks=self._blocks if len(self._blocks) >= min(count, MOST_SKETCHED) else array("q"),
            offsets=self._offsets,
            block=self._block,
            steps=self._steps,
            distinct_steps=len(self._different),
            sketch=self._sketch if same else array("f"),
            sketched=len(self._sketch) // SKETCH if same else 0,
            table=self._table if same else array("f"),
            columns=self._columns if same else 0,
        )

    def _flush(self) -> None:
        held, self._held, self._held_values = self._held, [], 0
        if not held:
            return
        inputs = _together([seen.inputs for seen in held])
        targets = _together([seen.targets for seen in held])
        self._shapes.add(tuple(tuple(rows.shape[1:]) for rows in inputs))
        self._inputs.extend(fingerprint.joined(*map(fingerprint.rows, inputs)).tolist())
        if targets:
            self._targets.extend(fingerprint.joined(*map(fingerprint.rows, targets)).tolist())
        self._targeted = self._targeted and bool(targets)
        self._labels(targets, len(inputs[0]))
        first = next((rows for rows in inputs if rows.is_floating_point()), None)
        self._kind = "float" if first is not None else "integer"
        if first is None:
            return
        self._find_blocks(first)
        flat = first.reshape(first.size(0), -1).float()
        self._sketches(flat)
        if len(inputs) == 1 and first.ndim in (2, 3) and 0 < first.size(-1) <= MOST_COLUMNS:
            self._columns = first.size(-1)
            rows = first if first.ndim == 2 else first[:, -1]
            left = max(0, MOST_ROWS - len(self._table) // self._columns)
            self._table.extend(rows[:left].float().flatten().tolist())

    def _labels(self, targets: list[Tensor], count: int) -> None:
        one = targets[0] if len(targets) == 1 else None
        if one is not None and one.ndim == 2 and one.size(1) > 1:
            ones = (one == 1).sum(1)
            if bool(((ones == 1) & ((one != 0).sum(1) == 1)).all()):
                one = one.to(torch.uint8).argmax(1)  # one-hot rows
        if one is None or one.numel() != count or one.is_complex():
            self._scalar = False
            return
        values = one.reshape(-1).double()
        self._label.extend(values.tolist())
        self._whole = self._whole and bool((values == values.round()).all())

    def _find_blocks(self, rows: Tensor) -> None:
        """Of windows (steps, features) or (steps,): the block with the smallest fingerprint, of those that are not constant."""
        rows = rows[: MOST_SKETCHED - len(self._blocks)]
        if not len(rows) or rows.ndim not in (2, 3) or rows.size(1) < 2 * LEAST_BLOCK:
            return
        # A series of several features is longer than wide; in a single row of numbers steps follow each other.
        steps = rows if rows.ndim == 3 else rows.unsqueeze(2)
        count, length, width = steps.shape
        block = max(LEAST_BLOCK, length // BLOCK_SHARE)
        self._block, self._steps = block, length
        marks = fingerprint.rows(steps.reshape(count * length, width)).reshape(count, length)
        if len(self._different) < MOST_STEPS:
            self._different.update(marks.flatten()[: 4 * MOST_STEPS].tolist())
        runs = marks.unfold(1, block, 1)  # (samples, places, block)
        found = fingerprint.joined(*runs.unbind(2))
        found = torch.where((runs == runs[:, :, :1]).all(2), torch.iinfo(torch.int64).max, found)
        least = found.min(1)
        self._blocks.extend(least.values.tolist())
        self._offsets.extend(least.indices.tolist())

    def _sketches(self, flat: Tensor) -> None:
        left = MOST_SKETCHED - len(self._sketch) // SKETCH
        if left <= 0 or not flat.size(1):
            return
        if self._rows is None or self._rows[0].numel() != min(flat.size(1), SKETCHED_VALUES):
            generator = torch.Generator().manual_seed(0)  # the same projections for every loader
            places = torch.arange(flat.size(1))
            if flat.size(1) > SKETCHED_VALUES:
                places = torch.randperm(flat.size(1), generator=generator)[:SKETCHED_VALUES]
            self._rows = places, torch.randn(places.numel(), SKETCH, generator=generator) / places.numel() ** 0.5
        places, rows = self._rows
        self._sketch.extend((flat[:left, places] @ rows).flatten().tolist())


def _alike(one: SeenBatch, other: SeenBatch) -> bool:
    def shapes(parts: tuple[Part, ...]) -> list[tuple[str, torch.dtype, torch.Size]]:
        return [(p.name, p.rows.dtype, p.rows.shape[1:]) for p in parts]

    return shapes(one.inputs) == shapes(other.inputs) and shapes(one.targets) == shapes(other.targets)


def _copied(seen: SeenBatch) -> SeenBatch:
    def copy(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(Part(name=p.name, rows=p.rows.clone()) for p in parts)

    return SeenBatch(batch=None, size=seen.size, begin=seen.begin, inputs=copy(seen.inputs), targets=copy(seen.targets))


def _together(parts: list[tuple[Part, ...]]) -> list[Tensor]:
    if not parts or not parts[0]:
        return []
    return [torch.cat([one[i].rows for one in parts]) for i in range(len(parts[0]))]
