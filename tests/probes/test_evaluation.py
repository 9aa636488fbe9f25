"""What runs in eval mode, on models whose randomness and state are known."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nncheck.lab.sandbox import Sandbox
from nncheck.probes.evaluation import Evaluation, evaluation
from nncheck.probes.normalisation import normalisation
from nncheck.target.assemble import assemble
from tests.cases.eval_mode import CLASSES, FEATURES, HIDDEN, Classifier, MonteCarlo, Sampled, _recipe


def _sandbox(model: nn.Module) -> Sandbox:
    return Sandbox(assemble(_recipe(model)), device=torch.device("cpu"))


def _seen(model: nn.Module) -> Evaluation:
    return evaluation(_sandbox(model))


class Doing(Classifier):
    """Does something to the hidden values."""

    def __init__(self, drop: Any, **layers: Any) -> None:
        super().__init__()
        self.what = drop
        for name, layer in layers.items():
            setattr(self, name, layer)

    def drop(self, h: Tensor) -> Tensor:
        return self.what(self, h)


def test_a_plain_model_gives_the_same_to_the_last_bit() -> None:
    found = _seen(Classifier())
    assert (found.seeds, found.again, found.further) == (0.0, 0.0, None)
    assert not found.random
    assert found.supervised
    assert found.shuffled


@pytest.mark.parametrize(
    ("drop", "because"),
    [
        (lambda model, h: F.dropout(h, 0.2), "default"),
        (lambda model, h: F.dropout(h, 0.2, True), "asked"),
        (lambda model, h: F.dropout(h, 0.2, training=not False), "wrong"),
        (lambda model, h: nn.Dropout(0.2)(h), "stray"),
        (lambda model, h: model.layer.train()(h), "stuck"),
    ],
)
def test_why_a_dropout_is_active(drop: Any, because: str) -> None:
    found = _seen(Doing(drop, layer=nn.Dropout(0.2)))
    assert [(use.kind, use.because, use.rate) for use in found.random] == [("dropout", because, 0.2)]
    assert found.seeds > 0.1


@pytest.mark.parametrize(
    ("drop", "kinds"),
    [
        (lambda model, h: h + 0.1 * torch.randn_like(h), ["noise"]),
        (lambda model, h: h * (torch.rand_like(h) > 0.2), ["mask"]),
        (lambda model, h: h.div(0.8) * h.new_empty(len(h), 1).bernoulli_(0.8), ["mask"]),
        (lambda model, h: 0.8 * h + 0.2 * h[torch.randperm(len(h))], ["noise"]),
        (lambda model, h: h + model.scale * torch.randn_like(h), []),
        (lambda model, h: F.gumbel_softmax(h), []),
        (lambda model, h: nn.Linear(HIDDEN, HIDDEN)(h), ["made"]),
    ],
)
def test_what_becomes_of_drawn_numbers(drop: Any, kinds: list[str]) -> None:
    found = _seen(Doing(drop, scale=nn.Parameter(torch.ones(()))))
    assert [use.kind for use in found.random] == kinds


def test_words_of_the_author() -> None:
    assert _seen(MonteCarlo()).random[0].declared == "Monte-Carlo"
    assert not _seen(Sampled()).random


def test_state_that_is_carried_on() -> None:
    def carry(model: Any, h: Tensor) -> Tensor:
        start = model.kept if model.kept is not None else torch.zeros_like(h)
        model.kept = h.detach()
        return h + 0.5 * start

    found = _seen(Doing(carry, kept=None))
    assert found.again > 0
    assert (found.further or 0.0) > 0
    assert [(item.name, item.registered) for item in found.state] == [("kept", False)]


@pytest.mark.parametrize(
    ("layer", "because"), [(nn.BatchNorm1d(HIDDEN, track_running_stats=False), "untracked"), (None, "functional")]
)
def test_statistics_of_the_batch(layer: nn.Module | None, because: str) -> None:
    def normalise(model: Any, h: Tensor) -> Tensor:
        return F.batch_norm(h, None, None, training=True) if model.layer is None else model.layer(h)

    assert [s.because for s in _seen(Doing(normalise, layer=layer)).statistics] == [because]


def test_a_dropout_on_the_output_is_followed_to_the_loss() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Dropout(0.3))
    found = normalisation(_sandbox(model)).dropped
    assert found is not None
    assert found[0] == 0.3
    assert found[2] == "cross-entropy"
    inner = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Dropout(0.3), nn.Linear(HIDDEN, CLASSES))
    assert normalisation(_sandbox(inner)).dropped is None
