"""A straight line through drawn samples: what is known beforehand comes out, and odd batches do no harm."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nncheck.survey.sketch import HELD, KEPT, LinearFit, Sketch
from nncheck.survey.walk import look


def _fit(x: Any, y: Any, *, batch: int = 64) -> LinearFit | None:
    sketch = Sketch()
    for index, begin in enumerate(range(0, len(y), batch)):
        rows = x[begin : begin + batch]
        sketch.add(index, look((rows, y[begin : begin + batch]), begin))
    return sketch.result()


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_classes_apart_are_told_apart() -> None:
    labels = torch.arange(1000) % 4
    found = _fit(_normal(1000, 8) + 6 * torch.eye(8)[labels], labels)
    assert found is not None
    assert (found.kind, found.outputs, found.held) == ("classes", 4, 200)
    assert found.right is not None
    assert found.right > 0.97
    assert found.loss < 0.1
    assert found.constant == pytest.approx(1.386, abs=0.01)


def test_a_line_with_noise_explains_its_share() -> None:
    x = _normal(2000, 5)
    y = x[:, :1] + _normal(2000, 1, seed=1)
    found = _fit(x, y)
    assert found is not None
    assert found.kind == "numbers"
    assert found.loss / found.constant == pytest.approx(0.5, abs=0.1)


def test_random_labels_are_not_told_apart() -> None:
    found = _fit(_normal(2000, 20), torch.randint(0, 2, (2000,), generator=torch.Generator().manual_seed(3)))
    assert found is not None
    assert found.constant - found.loss < 6 * found.error


def test_wide_inputs_are_added_up_and_many_samples_drawn() -> None:
    labels = torch.arange(6000) % 2
    x = _normal(6000, 1, 30, 30) + labels[:, None, None, None] * torch.linspace(-1, 1, 30)
    found = _fit(x, labels)
    assert found is not None
    assert found.held == math.ceil(KEPT / HELD)
    assert found.width == 256
    assert found.right is not None
    assert found.right > 0.9


def test_float_labels_of_yes_and_no_are_classes() -> None:
    x = _normal(500, 3)
    found = _fit(x, (x[:, :1] > 0).float())
    assert found is not None
    assert found.kind == "classes"
    assert found.right is not None
    assert found.right > 0.9


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.randint(0, 9, (500, 8)), torch.randint(0, 9, (500, 8))),
        (torch.ones(500, 3), torch.arange(500).float()),
        (torch.randn(500, 3), torch.ones(500)),
        (torch.full((500, 3), torch.nan), torch.arange(500).float()),
        (torch.randn(20, 3), torch.randn(20)),
        (torch.randn(500, 3, dtype=torch.complex64), torch.randn(500)),
        (torch.randn(500, 3), torch.randn(500, 0)),
        (torch.randn(500, 3), torch.arange(500)),
    ],
)
def test_where_no_line_can_be_drawn_there_is_none(x: Tensor, y: Tensor) -> None:
    assert _fit(x, y) is None
