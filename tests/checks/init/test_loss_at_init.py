"""loss-at-init on evidence built by hand: both sides of each limit."""

import dataclasses
import math

import pytest

from nncheck.checks.init.loss_at_init import loss_at_init
from nncheck.losses.starting import StartingLoss
from nncheck.observe.layer_sizes import Layer
from nncheck.probes.initial_loss import InitialLoss, SumTrial, Use
from nncheck.probes.label_baseline import LabelBaseline
from nncheck.probes.loss_at_truth import LossAtTruth
from nncheck.probes.loss_inputs import LossInputs
from nncheck.verdict import Place, Status, Verdict
from tests.checks.init.test_output_bias_init import LABELS
from tests.checks.wiring.test_double_softmax import LOG_SOFTMAX, LOGITS

CHANCE = math.log(10)
LEVEL = StartingLoss(
    kind="cross-entropy", place=Place(name="cross_entropy"), reduction="mean", options="", loss=CHANCE, error=0.01, expected=CHANCE,
    constant=CHANCE, lowest=0.0, predictions=256, ignored=0, classes=10, several=False, spread=0.3, offset=0.1, clipped=0.0,
    size=0.3, right=0.1, target_sums=None, target_range=(0.0, 9.0), in_batch=False, connected=True,
    target_connected=False, factors=(1.0,) * 4, counts=(64,) * 4, samples=(64,) * 4, kept=(1.0,) * 4,
)  # fmt: skip
START = InitialLoss(
    final=(CHANCE,) * 4, levels=(LEVEL,), other=(), layers=(), places={}, input_size=1.0, normalised=False, trained="",
    shuffled=None,
    summed=None, adaptive=True,
)  # fmt: skip
HEAD = Layer(name="head", type="Linear", came_in=0.5, came_out=0.3, gain=0.58, fan_in=64, tied=False)
UNASKED = LossAtTruth(asked=False)
MSE = dataclasses.replace(
    LEVEL,
    kind="mse",
    classes=1,
    expected=1.0,
    constant=1.0,
    loss=1.1,
    right=None,
    spread=0.3,
    target_range=(-3.0, 3.0),
)


def _ask(
    start: InitialLoss = START,
    inputs: LossInputs | None = None,
    labels: LabelBaseline = LABELS,
    truth: LossAtTruth = UNASKED,
    **level: object,
) -> Verdict:
    if level:
        start = dataclasses.replace(start, levels=(dataclasses.replace(start.levels[0], **level),))
    return loss_at_init(start, inputs or LossInputs(inputs=()), labels, truth)


@pytest.mark.parametrize(
    ("loss", "error", "spread", "status"),
    [
        (CHANCE, 0.01, 0.3, Status.PASS),
        (CHANCE + 0.52, 0.01, 2.0, Status.PASS),  # 0.5 + 3 standard errors
        (CHANCE + 0.54, 0.01, 2.0, Status.WARN),
        (CHANCE + 0.54, 0.01, 1.4, Status.PASS),  # scores of unit variance
        (CHANCE + 1.17, 0.01, 2.0, Status.WARN),  # 50 % of ln 10 is 1.151
        (CHANCE + 1.19, 0.01, 2.0, Status.FAIL),
        (CHANCE + 1.19, 0.4, 2.0, Status.PASS),
        (math.nan, 0.01, 2.0, Status.PASS),  # finite-values says so
    ],
)
def test_too_high(loss: float, error: float, spread: float, status: Status) -> None:
    assert _ask(loss=loss, error=error, spread=spread).status == status


def test_the_layer_that_is_too_large_is_named_with_its_factor() -> None:
    start = dataclasses.replace(
        START,
        layers=(dataclasses.replace(HEAD, name="body"), dataclasses.replace(HEAD, gain=8.0)),
        places={"head": Place(name="head", file="model.py", line=7)},
    )
    verdict = _ask(start, loss=12.0, spread=8.0)
    assert verdict.status == Status.FAIL
    assert verdict.places[0].line == 7
    assert verdict.remedies[0].code == "model.head.weight.data.mul_(0.0722)"


def test_a_tied_embedding_is_named_and_a_free_one_is_not() -> None:
    free = dataclasses.replace(HEAD, name="embed", type="Embedding", gain=8.0)
    tied = [dataclasses.replace(layer, tied=True, gain=8.0) for layer in (free, HEAD)]
    assert "tied" in _ask(dataclasses.replace(START, layers=tuple(tied)), loss=30.0, spread=8.0).summary
    assert "embed" not in _ask(dataclasses.replace(START, layers=(free, HEAD)), loss=30.0, spread=8.0).summary


def test_large_inputs_and_a_wrong_bias_are_told_apart() -> None:
    assert "input" in _ask(dataclasses.replace(START, input_size=130.0), loss=30.0, spread=8.0).summary
    assert (
        "prefers the same classes"
        in _ask(dataclasses.replace(START, layers=(HEAD,)), loss=5.0, spread=3.0, offset=2.9).summary
    )


@pytest.mark.parametrize(
    ("loss", "shuffled", "status"),
    [(0.3, 0.3, Status.FAIL), (0.3, 2.4, Status.PASS), (1.3, 1.3, Status.PASS), (0.3, None, Status.PASS)],
)
def test_too_low(loss: float, shuffled: float | None, status: Status) -> None:
    assert _ask(dataclasses.replace(START, shuffled=shuffled), loss=loss).status == status


def test_the_best_constant_is_not_too_low() -> None:
    assert _ask(dataclasses.replace(START, shuffled=0.06), loss=0.06, constant=0.056).status == Status.PASS


def test_a_trained_model_is_not_judged_by_its_value() -> None:
    trained = dataclasses.replace(START, trained="the optimizer has a state already")
    assert _ask(trained, loss=9.0, spread=5.0).status == Status.SKIP


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"classes": 1, "loss": 0.0, "expected": 0.0}, Status.FAIL),
        ({"connected": False, "target_connected": True}, Status.FAIL),
        ({"kind": "bce-with-logits", "target_range": (-1.0, 1.0)}, Status.FAIL),
        ({"kind": "bce-with-logits", "target_range": (0.0, 1.0), "loss": 0.69, "expected": 0.6931}, Status.PASS),
        ({"target_sums": (2.0, 2.0)}, Status.FAIL),
        ({"target_sums": (0.0, 1.0)}, Status.PASS),
        ({"target_sums": (0.9995, 1.0005)}, Status.PASS),
        ({"connected": False}, Status.SKIP),
        ({"in_batch": True, "loss": CHANCE + 8.0, "spread": 9.0}, Status.SKIP),
        ({"in_batch": True, "loss": 0.2, "spread": 9.0}, Status.SKIP),
    ],
)
def test_what_the_loss_is_given(changes: dict[str, object], status: Status) -> None:
    assert _ask(**changes).status == status


def test_clipped_scores_are_told_after_what_clips_them() -> None:
    high = {"loss": CHANCE + 8.0, "spread": 9.0}
    assert _ask(**high, clipped=0.5).follows == ("saturation", "gradient-flow")
    assert _ask(**high, clipped=0.05).follows == ()


def test_scaled_cosines_are_a_choice() -> None:
    cosines = dataclasses.replace(START, normalised=True, layers=(HEAD,))
    assert _ask(cosines, loss=30.0, spread=9.0).status == Status.PASS


def test_log_probabilities() -> None:
    raw = dataclasses.replace(LOGITS, kind="nll")
    assert _ask(inputs=LossInputs(inputs=(raw,)), kind="nll", loss=0.02).status == Status.FAIL
    other = dataclasses.replace(raw, made_by=LOG_SOFTMAX, log_sums_off=1.0, log_sums_high=-1.0)
    assert "another dimension" in _ask(inputs=LossInputs(inputs=(other,)), kind="nll", loss=3.4).summary
    right = dataclasses.replace(raw, made_by=LOG_SOFTMAX, log_sums_off=1e-6, log_sums_high=1e-6)
    assert _ask(inputs=LossInputs(inputs=(right,)), kind="nll").status == Status.PASS


@pytest.mark.parametrize(
    ("kept", "factor", "status"),
    [
        (0.1, 0.1, Status.FAIL),
        (0.6, 0.6, Status.WARN),
        (0.9, 0.9, Status.PASS),
        (0.1, 0.25, Status.PASS),
        (0.1, 1.0, Status.PASS),
    ],
)
def test_averages_over_what_does_not_count(kept: float, factor: float, status: Status) -> None:
    assert _ask(reduction="none", kept=(kept,) * 4, factors=(factor,) * 4).status == status


@pytest.mark.parametrize(
    ("after", "after_mean", "status"),
    [(9.0, 2.0, Status.FAIL), (math.nan, 2.0, Status.FAIL), (2.0, 1.9, Status.PASS), (9.0, 9.0, Status.PASS)],
)
def test_a_sum_is_tried(after: float, after_mean: float, status: Status) -> None:
    trial = SumTrial(updates=8, before=CHANCE, after=after, after_mean=after_mean)
    start = dataclasses.replace(START, summed=trial, adaptive=False)
    assert _ask(start, reduction="sum", factors=(64.0,) * 4).status == status


@pytest.mark.parametrize("kind", ["cross-entropy", "bce-with-logits", "mse"])
def test_a_sum_that_the_optimizer_divides_out_is_only_mentioned(kind: str) -> None:
    summed = _ask(kind=kind, reduction="sum", factors=(64.0,) * 4, target_range=(0.0, 1.0))
    assert summed.status == Status.PASS
    assert "the sum over 64 predictions" in summed.measured
    assert "the sum over" not in _ask(kind=kind, reduction="sum", factors=(1.0,) * 4, target_range=(0.0, 1.0)).measured


@pytest.mark.parametrize(
    ("loss", "offset", "status"),
    [
        (3.02, 3.2, Status.FAIL),
        (1.5, 1.6, Status.WARN),
        (3.02, 1.4, Status.PASS),
        (1.1, 3.2, Status.PASS),
        (math.nan, 3.2, Status.PASS),
    ],
)
def test_one_output_that_is_off_for_every_sample(loss: float, offset: float, status: Status) -> None:
    labels = dataclasses.replace(LABELS, kind="bce-with-logits", classes=1, bias=(-3.178,), shares=(0.04,), now=(3.2,))
    verdict = _ask(
        labels=labels, kind="bce-with-logits", classes=1, target_range=(0.0, 1.0), expected=math.log(2),
        constant=0.16, loss=loss, error=0.01,
        spread=0.07,
        offset=offset,
    )  # fmt: skip
    assert verdict.status == status
    if status == Status.FAIL:
        assert "wrong sign" in verdict.causes[0]
        assert "torch.tensor([-3.178])" in (verdict.remedies[0].code or "")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"distinct": 10, "largest_label": 9}, Status.PASS),
        ({"distinct": 6, "largest_label": 5}, Status.PASS),
        ({"distinct": 5, "largest_label": 4}, Status.WARN),  # ln 2 too high
        ({"distinct": 2, "largest_label": 1}, Status.FAIL),  # ln 5 too high
        ({"distinct": 2, "largest_label": 1, "rarest": 4}, Status.PASS),
        ({"distinct": 2, "largest_label": 7}, Status.PASS),
        ({"distinct": 2, "largest_label": 1, "mixed_order": False}, Status.PASS),
        ({"distinct": 2, "largest_label": 1, "several": True}, Status.PASS),
    ],
)
def test_classes_that_never_occur(changes: dict[str, object], status: Status) -> None:
    assert _ask(labels=dataclasses.replace(LABELS, **changes)).status == status


@pytest.mark.parametrize(
    ("kind", "loss", "size", "status"),
    [
        ("mse", 3.9, 5.0, Status.PASS),
        ("mse", 4.5, 5.0, Status.WARN),
        ("mse", 26.0, 5.0, Status.FAIL),
        ("mse", 26.0, 2.9, Status.PASS),  # outputs of ordinary size, tiny targets
        ("l1", 1.9, 5.0, Status.PASS),
        ("l1", 2.1, 5.0, Status.WARN),
        ("l1", 5.1, 5.0, Status.FAIL),
        ("mse", 0.01, 5.0, Status.PASS),
    ],
)
def test_regression(kind: str, loss: float, size: float, status: Status) -> None:
    start = dataclasses.replace(START, levels=(dataclasses.replace(MSE, kind=kind, loss=loss, size=size),))
    assert _ask(start, labels=dataclasses.replace(LABELS, classes=1)).status == status


EACH = Use(kind="bce-with-logits", place=Place(name="bce"), reduction="none", classes=1, weight=None)
DIVERGENCE = Use(kind="kl-div", place=Place(name="kl_div"), reduction="mean", classes=3, weight=4.0)


@pytest.mark.parametrize(
    ("use", "status"),
    [
        (dataclasses.replace(EACH, against=(58, 0), of=(58, 6)), Status.FAIL),
        (dataclasses.replace(EACH, against=(0, 5), of=(58, 5)), Status.FAIL),
        (dataclasses.replace(EACH, against=(0, 4), of=(58, 4)), Status.PASS),  # too few to tell
        (dataclasses.replace(EACH, against=(57, 0), of=(58, 6)), Status.PASS),  # advantages of actions
        (dataclasses.replace(EACH, against=(58, 1), of=(58, 6)), Status.PASS),
        (dataclasses.replace(EACH, against=(58, 6), of=(58, 6)), Status.PASS),  # a sign that is turned for all
        (dataclasses.replace(EACH, against=(58, 0), of=(58, 0)), Status.PASS),  # positives and unlabelled, apart
        (EACH, Status.PASS),
        (DIVERGENCE, Status.WARN),
        (dataclasses.replace(DIVERGENCE, weight=1.0), Status.WARN),
        (dataclasses.replace(DIVERGENCE, weight=3.0), Status.PASS),  # multiplied by the classes again
        (dataclasses.replace(DIVERGENCE, weight=12.0), Status.PASS),
        (dataclasses.replace(DIVERGENCE, weight=0.003), Status.WARN),
        (dataclasses.replace(DIVERGENCE, weight=None), Status.PASS),
        (dataclasses.replace(DIVERGENCE, weight=math.nan), Status.PASS),
        (dataclasses.replace(DIVERGENCE, reduction="batchmean"), Status.PASS),
        (dataclasses.replace(DIVERGENCE, classes=1), Status.PASS),
    ],
)
def test_what_is_made_of_the_value(use: Use, status: Status) -> None:
    assert _ask(dataclasses.replace(START, uses=(use,))).status == status


def test_unknown_losses_are_not_guessed_at() -> None:
    verdict = _ask(dataclasses.replace(START, levels=(), other=("ctc",)))
    assert verdict.status == Status.SKIP
    assert "ctc" in (verdict.why_skipped or "")


@pytest.mark.parametrize(
    ("at_truth", "beyond", "outside", "status"),
    [
        (0.0, -0.5, 0.6, Status.FAIL),  # 1 - Dice of raw scores
        (0.0, -0.5, 0.0, Status.SKIP),  # behind a sigmoid
        (0.0, -0.5, 0.06, Status.FAIL),
        (0.0, -0.5, 0.04, Status.SKIP),
        (0.0, 1.3, 0.6, Status.SKIP),  # squared errors
        (0.0, -0.09, 0.6, Status.SKIP),
        (0.019, -0.11, 0.6, Status.FAIL),
        (0.021, -0.5, 0.6, Status.SKIP),
        (0.42, 0.2, 0.6, Status.SKIP),  # the sigmoid is inside the loss
        (math.nan, math.nan, 0.6, Status.SKIP),
    ],
)
def test_a_loss_of_probabilities_given_raw_scores(
    at_truth: float, beyond: float, outside: float, status: Status
) -> None:
    truth = LossAtTruth(asked=True, loss=1.2, at_truth=at_truth, beyond=beyond, low=-2.0, high=1.5, outside=outside)
    start = dataclasses.replace(START, levels=())
    assert _ask(start, truth=truth).status == status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.FAIL),
        ({"products": False}, Status.SKIP),  # prototypes compared by their distance
        ({"spread": 7.9}, Status.SKIP),
        ({"loss": 2.9 * CHANCE}, Status.SKIP),
        ({"loss": 3.1 * CHANCE}, Status.FAIL),
        ({"loss": 3.1 * CHANCE, "error": 0.1}, Status.SKIP),
    ],
)
def test_products_of_embeddings_of_any_length(changes: dict[str, float], status: Status) -> None:
    base = {"loss": 40.0, "spread": 30.0, "in_batch": True, "products": True}
    assert _ask(**{**base, **changes}).status == status
    assert _ask(dataclasses.replace(START, normalised=True), **{**base, **changes}).status == Status.SKIP
    assert _ask(dataclasses.replace(START, trained="loaded"), **{**base, **changes}).status == Status.SKIP


@pytest.mark.parametrize(
    ("loss", "spread", "near"),
    [
        (CHANCE + 0.52, 2.0, True),  # the limit is 0.53
        (CHANCE + 0.54, 2.0, True),
        (CHANCE + 0.50, 2.0, False),
        (CHANCE + 0.56, 2.0, False),
        (CHANCE + 0.52, 1.0, False),  # and the outputs spread by far less than scores that are too large
        (CHANCE + 0.90, 1.45, True),  # passes for their sake, barely
        (CHANCE + 0.90, 1.60, True),
        (CHANCE + 1.17, 2.0, True),  # warns, and fails from 1.18 on
        (CHANCE + 3.0, 8.0, False),
        (CHANCE, 0.3, False),
    ],
)
def test_near_its_limits_it_says_so(loss: float, spread: float, near: bool) -> None:
    verdict = _ask(loss=loss, error=0.01, spread=spread)
    assert bool(verdict.near) is near, verdict.near
    assert verdict.spread["loss"] == 0.01
    assert set(verdict.spread) <= set(verdict.numbers)


@pytest.mark.parametrize(
    ("loss", "size", "near"),
    [(3.9, 5.0, True), (4.15, 5.0, True), (3.7, 5.0, False), (8.0, 5.0, False), (8.0, 3.1, True), (24.9, 5.0, True)],
)
def test_a_regression_near_its_limits_says_so(loss: float, size: float, near: bool) -> None:
    start = dataclasses.replace(START, levels=(dataclasses.replace(MSE, loss=loss, size=size, error=0.1),))
    verdict = _ask(start, labels=dataclasses.replace(LABELS, classes=1))
    assert bool(verdict.near) is near, verdict.near


def test_what_the_loss_is_given_is_never_near() -> None:
    assert _ask(target_sums=(2.0, 2.0)).near == ""
