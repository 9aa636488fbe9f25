"""output-bias-init on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.init.output_bias_init import output_bias_init
from nncheck.losses.starting import StartingLoss
from nncheck.probes.initial_loss import InitialLoss
from nncheck.probes.label_baseline import LabelBaseline
from nncheck.verdict import Place, Status

LABELS = LabelBaseline(
    kind="cross-entropy", place=Place(name="cross_entropy"), options="", labels=2000, several=False, classes=10, distinct=10,
    largest_label=9, rarest=150, mixed_order=True, unusual="", loss=2.35, drawn=2.35, lowest=0.0,
    error=0.02, constant=2.3, here=2.3, zero=math.log(10),
    bias=(-2.3,) * 10, shares=(0.1,) * 10, now=(0.0,) * 10, spread=0.2, head=Place(name="head", file="model.py", line=3),
    head_name="blocks.0.head", head_type="Linear", head_has_bias=True, updates=None,
)  # fmt: skip
RARE = dataclasses.replace(
    LABELS, kind="bce-with-logits", classes=1,
    distinct=0, largest_label=-1, loss=0.69, drawn=0.69, zero=0.6931, here=0.2, constant=0.2,
    bias=(-2.944,), shares=(0.05,), now=(0.01,), updates=77,
)  # fmt: skip
FAR = dataclasses.replace(RARE, kind="mse", loss=26.0, zero=26.0, here=1.0, constant=1.0, bias=(5.0,), shares=(5.0,))
START = InitialLoss(
    final=(2.3,), levels=(), other=(), layers=(), places={}, input_size=1.0, normalised=False, trained="", shuffled=None,
    summed=None,
    adaptive=True,
)  # fmt: skip


def _status(base: LabelBaseline, /, **changes: object) -> Status:
    return output_bias_init(dataclasses.replace(base, **changes), START).status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.WARN),
        ({"constant": 0.47}, Status.PASS),  # 0.22 is less than half of 0.47
        ({"constant": 0.45, "error": 0.01}, Status.WARN),
        ({"here": 0.5}, Status.WARN),  # a first batch with many positives
        ({"loss": 0.21}, Status.PASS),  # the outputs know their labels
        ({"drawn": 0.21}, Status.PASS),  # the outputs suit the labels of other batches
        ({"drawn": math.nan}, Status.WARN),
        ({"unusual": "reconstruction"}, Status.SKIP),
        ({"unusual": "soft targets"}, Status.SKIP),
        ({"error": 0.17}, Status.PASS),  # within three standard errors
        ({"loss": 0.29, "drawn": 0.29, "zero": 0.29, "error": 0.01}, Status.PASS),  # less than 0.1 of a nat
        ({"zero": 0.3}, Status.PASS),  # most of the gap is not the bias's
        ({"head": None}, Status.PASS),
        ({"loss": 0.2}, Status.PASS),
        ({"here": math.nan}, Status.SKIP),
        ({"kind": ""}, Status.SKIP),
        ({"shares": (1.0,), "constant": 0.0}, Status.SKIP),  # a generator wants all its pictures called real
        ({"shares": (0.0, 1.0), "constant": 0.0}, Status.SKIP),
        ({"shares": (0.0, 0.05)}, Status.WARN),
    ],
)
def test_rare_events(changes: dict[str, object], status: Status) -> None:
    assert _status(RARE, **changes) == status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.PASS),
        ({"constant": 1.0}, Status.WARN),
        ({"constant": 1.0, "unusual": "language model"}, Status.PASS),
        ({"constant": 1.0, "distinct": 1}, Status.SKIP),
        ({"constant": 1.0, "mixed_order": False}, Status.SKIP),
        ({"constant": 1.0, "several": True, "labels": 199}, Status.SKIP),
        ({"constant": 1.0, "several": True, "labels": 201}, Status.WARN),
        ({"constant": 1.0, "distinct": 5}, Status.PASS),  # the head is too wide
        ({"constant": 1.0, "distinct": 5, "several": True}, Status.PASS),  # or few pictures were seen
        ({"constant": 1.0, "distinct": 6, "several": True}, Status.WARN),
    ],
)
def test_classes(changes: dict[str, object], status: Status) -> None:
    assert _status(LABELS, **changes) == status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.WARN),
        ({"loss": 4.1}, Status.WARN),
        ({"loss": 3.9}, Status.PASS),
        ({"zero": 1.2}, Status.PASS),  # the outputs are too large, not the targets far
        ({"kind": "l1", "loss": 2.1}, Status.WARN),
        ({"kind": "l1", "loss": 1.9}, Status.PASS),
        ({"here": 0.0}, Status.SKIP),
        # counts: what counts is how far each lies above perfect rates
        ({"kind": "poisson-nll"}, Status.WARN),
        ({"kind": "poisson-nll", "here": 1.0, "lowest": 0.5, "loss": 2.4, "zero": 2.4}, Status.PASS),
        ({"kind": "poisson-nll", "here": -40.0, "lowest": -41.0, "loss": -17.0, "zero": -17.0}, Status.PASS),
        ({"kind": "poisson-nll", "here": -40.0, "lowest": -41.0, "loss": -15.0, "zero": -15.0}, Status.WARN),
    ],
)
def test_targets_far_from_zero(changes: dict[str, object], status: Status) -> None:
    assert _status(FAR, **changes) == status


def test_the_remedy_is_the_tensor_itself() -> None:
    verdict = output_bias_init(RARE, START)
    assert verdict.remedies[0].code == "model.blocks[0].head.bias.data = torch.tensor([-2.944])"
    assert "77 updates" in verdict.remedies[0].text
    assert "no bias" in output_bias_init(dataclasses.replace(RARE, head_has_bias=False), START).remedies[0].text


def test_a_trained_model_is_left_alone() -> None:
    assert output_bias_init(RARE, dataclasses.replace(START, trained="it has a state")).status == Status.SKIP


@pytest.mark.parametrize(
    ("bias", "code"),
    [((3.5,), "model.mean.data.fill_(3.5)"), ((3.5, 1.0), "model.mean.data.copy_(torch.tensor([3.5, 1]))")],
)
def test_a_mean_that_is_added_is_set_itself(bias: tuple[float, ...], code: str) -> None:
    verdict = output_bias_init(
        dataclasses.replace(FAR, bias=bias, shares=bias, head_name="mean", head_type="Parameter"), START
    )
    assert verdict.status is Status.WARN
    assert verdict.remedies[0].code == code


LEVEL = StartingLoss(
    kind="bce-with-logits", place=Place(name="bce"), reduction="mean", options="", loss=0.69, error=0.01, expected=0.6931,
    constant=0.2, lowest=0.0, predictions=256, ignored=0, classes=1, several=False, spread=0.3, offset=0.1, clipped=0.0,
    size=0.3, right=0.1, target_sums=None, target_range=(0.0, 1.0), in_batch=False, connected=True,
    target_connected=False, factors=(1.0,) * 4, counts=(64,) * 4, samples=(64,) * 4, kept=(1.0,) * 4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"loss": 0.69}, False),
        ({"loss": 0.32, "drawn": 0.32}, True),  # a gap of 0.12, allowed are 0.1; known to 0.03
        ({"loss": 0.28, "drawn": 0.28}, True),
        ({"loss": 0.22, "drawn": 0.22}, False),
        ({"loss": 0.28, "drawn": 0.21}, False),  # with labels drawn from all there is none
        ({"loss": 0.32, "drawn": 0.32, "unusual": "language model"}, False),
        ({"loss": 0.32, "drawn": 0.32, "head": None}, False),
    ],
)
def test_a_gap_near_its_limit_says_so(changes: dict[str, object], near: bool) -> None:
    start = dataclasses.replace(START, levels=(LEVEL,))
    verdict = output_bias_init(dataclasses.replace(RARE, error=0.02, **changes), start)
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread == {"loss": 0.02, "constant": 0.02}  # of one of four batches; of all


@pytest.mark.parametrize(
    ("loss", "near"), [(26.0, False), (4.7, True), (3.5, True), (1.1, False)]
)  # a variance of 64 numbers is known to 18 %
def test_a_ratio_near_its_limit_says_so(loss: float, near: bool) -> None:
    start = dataclasses.replace(START, levels=(dataclasses.replace(LEVEL, kind="mse", error=0.1),))
    verdict = output_bias_init(dataclasses.replace(FAR, loss=loss, zero=loss), start)
    assert bool(verdict.near) is near, verdict.near
