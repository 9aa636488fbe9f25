"""Which variables and printed numbers are accuracies, told from their names."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from nncheck.capture.witnesses.variables import users_frames
from nncheck.observe.source import place_at
from nncheck.verdict import Place

# Interface: what people call accuracies. Sums, counts, bests, histories and what belongs to the training are not the value itself.
_ACCURACY = re.compile(r"acc|acc[_@]?\d|accuracy|accuracies|top_?\d|top1acc|(val|valid|test|eval|dev)_?acc(uracy)?")
_OTHER = {
    "best", "train", "training", "trn", "tr", "total", "sum", "running", "run", "num", "n", "count", "correct", "hits", "old",
    "last", "prev", "previous", "target", "threshold", "delta", "max", "min", "loss", "ema", "smooth", "smoothed", "steps", "grad",
    "class", "per", "batch", "epoch", "patience", "history", "hist", "list", "values", "log", "logs",
}  # fmt: skip
_LABEL = re.compile(
    r"(?P<label>(?:[A-Za-z]+[ _-])?(?:acc(?:uracy)?(?:[_@]?\d)?|top-?\d))\b\W{0,6}(?:of|is|on)?[^\dA-Za-z\n.+-]{0,12}"
    r"(?P<number>-?\d+(?:\.\d+)?)(?P<of>\s*/\s*(?P<all>\d+))?(?:\s*\(\s*(?P<percent>-?\d+(?:\.\d+)?)\s*%)?",
    re.IGNORECASE,
)

# Digits of a share that is printed as two counts.
EXACT = 9


def is_accuracy(name: str) -> bool:
    """Whether a variable or a key is called after an accuracy: `val_acc`, `acc1`, `test_accuracy`."""
    words = [
        word
        for word in re.split(r"[^a-z0-9@]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().replace("top-", "top"))
        if word
    ]
    return any(_ACCURACY.fullmatch(word) for word in words) and not any(word in _OTHER for word in words)


def number_of(value: Any) -> float | None:
    """A floating-point number, or a tensor or array of one. A whole number is a count, which is divided elsewhere."""
    if isinstance(value, (float, np.floating)):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        return float(value.detach())
    if isinstance(value, np.ndarray) and value.size == 1 and np.issubdtype(value.dtype, np.floating):
        return float(value.reshape(-1)[0])
    return None


def values_in(names: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The accuracies among a frame's variables: under their own names, under an object's key or attribute, as a meter's average."""
    for name, value in list(names.items()):
        if name.startswith("__"):
            continue
        if is_accuracy(name):
            for path, inner in ((name, value), (f"{name}.avg", getattr(value, "avg", None))):
                number = number_of(inner)
                if number is not None and math.isfinite(number):
                    yield path, number
        elif isinstance(value, dict) and len(value) < 200:
            yield from _held(name, value)
        elif name == "self" and hasattr(value, "__dict__"):
            yield from _held(name, vars(value))


def _held(owner: str, held: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    for key, value in list(held.items()):
        number = number_of(value) if isinstance(key, str) and is_accuracy(key) else None
        if number is not None and math.isfinite(number):
            yield f"{owner}.{key}", number


class Printed(io.TextIOBase):
    """Standard output that is read for accuracies, line by line, once `note` is set."""

    def __init__(self) -> None:
        self.note = False
        self._text = ""
        self._place = Place(name="print")
        self._lines: list[tuple[str, Place]] = []

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.note and text:
            if not self._text.strip():
                frame = next(users_frames(), None)
                if frame is not None:
                    self._place = place_at("print", frame.f_code.co_filename, frame.f_lineno)
            *done, self._text = re.split(r"[\r\n]", self._text + text)
            self._lines.extend((line, self._place) for line in done if line.strip())
        return len(text)

    def found(self) -> Iterator[tuple[str, tuple[float, int, Place]]]:
        """Each accuracy that was printed: a key that is the same in each run of the same lines; value, digits and place."""
        times: Counter[str] = Counter()
        for line, place in [*self._lines, (self._text, self._place)]:
            for match in _LABEL.finditer(line):
                label = match["label"]
                if not is_accuracy(label):
                    continue
                key = f"print {place.file}:{place.line} {label}"
                times[key] += 1
                text = match["percent"] or match["number"]
                value, digits = float(text), len(text.partition(".")[2])
                if match["all"] and not match["percent"] and float(match["all"]):
                    value, digits = value / float(match["all"]), EXACT
                elif not digits and not match["percent"] and not line[match.end() :].lstrip().startswith("%"):
                    continue  # a count
                yield (
                    f"{key} {times[key]}",
                    (value, digits, dataclasses.replace(place, name=label, detail="")),
                )
