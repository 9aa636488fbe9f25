"""What the loss probes measure, on set-ups whose answers are known."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.losses.starting import by_position
from nncheck.observe.lineage import compares_activations
from nncheck.probes.initial_loss import initial_loss
from nncheck.probes.label_baseline import label_baseline, spelled
from nncheck.probes.loss_inputs import loss_inputs
from nncheck.probes.target_pairing import target_pairing
from nncheck.target.assemble import assemble
from tests.cases.loss_at_init import Classifier, recipe
from tests.cases.loss_broadcast import tagging

Loss = Callable[[Tensor, Tensor], Tensor]


def _sandbox(made: Recipe) -> Sandbox:
    return Sandbox(assemble(made), device=torch.device("cpu"))


def _zero(model: Classifier) -> None:
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)


def _mask(y: Tensor) -> Tensor:
    return (torch.arange(len(y)) % 4 == 0).float()


@pytest.mark.parametrize(
    ("loss_fn", "expected"),
    [
        (nn.CrossEntropyLoss(), math.log(5)),
        (nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0)), math.log(5)),
        (nn.CrossEntropyLoss(label_smoothing=0.2), math.log(5)),
        (nn.CrossEntropyLoss(ignore_index=1), math.log(5)),
        (nn.CrossEntropyLoss(reduction="sum"), math.log(5)),
        (lambda z, y: F.nll_loss(z.log_softmax(1), y), math.log(5)),
        (nn.MultiMarginLoss(), 0.8),
        (lambda z, y: F.binary_cross_entropy(z.sigmoid(), F.one_hot(y, 5).float()), math.log(2)),
        (
            lambda z, y: F.binary_cross_entropy_with_logits(
                z, F.one_hot(y, 5).float(), pos_weight=torch.full((5,), 4.0)
            ),
            math.log(2) * (0.2 * 4 + 0.8),
        ),
        (lambda z, y: F.kl_div(z.log_softmax(1), F.one_hot(y, 5).float(), reduction="batchmean"), math.log(5)),
        (lambda z, y: F.kl_div(z.log_softmax(1), F.one_hot(y, 5).float(), reduction="sum"), math.log(5)),
        (lambda z, y: F.l1_loss(z, F.one_hot(y, 5).float()), 0.2),
        (lambda z, y: F.mse_loss(z, F.one_hot(y, 5).float() * 3), 1.8),
        (lambda z, y: F.huber_loss(z, F.one_hot(y, 5).float() * 3, delta=1.0), 0.5),
    ],
)
def test_with_a_head_of_zeros_the_loss_is_the_one_expected(loss_fn: Loss, expected: float) -> None:
    start = initial_loss(_sandbox(recipe(_zero, loss_fn)))
    level = start.levels[0]
    assert level.expected == pytest.approx(expected, rel=1e-4)
    assert level.loss == pytest.approx(level.expected, rel=1e-4)


def test_every_factor_between_call_and_loss_is_seen() -> None:
    start = initial_loss(_sandbox(recipe(loss_fn=lambda z, y: F.cross_entropy(z, y) / 4)))
    assert start.levels[0].factors == pytest.approx((0.25,) * 4, rel=1e-5)
    start = initial_loss(_sandbox(recipe(loss_fn=nn.CrossEntropyLoss(reduction="sum"))))
    assert start.levels[0].factors == pytest.approx((64.0,) * 4, rel=1e-5)


def test_a_mask_of_zeros_and_ones_is_seen() -> None:
    def masked(z: Tensor, y: Tensor) -> Tensor:
        return (F.cross_entropy(z, y, reduction="none") * _mask(y)).mean()

    level = initial_loss(_sandbox(recipe(loss_fn=masked))).levels[0]
    assert level.kept == pytest.approx((0.25,) * 4)
    assert level.factors == pytest.approx((0.25,) * 4, rel=1e-5)


def test_gains_and_tied_weights() -> None:
    def large(model: Classifier) -> None:
        nn.init.constant_(model.head.weight, 0.5)

    layers = {layer.name: layer for layer in initial_loss(_sandbox(recipe(large))).layers}
    assert layers["head"].gain == pytest.approx(0.5 * 8)
    assert layers["body.0"].gain == pytest.approx(3**-0.5, abs=0.05)
    assert not layers["head"].tied


def test_shuffled_parameters_tell_learning_from_leaking() -> None:
    class Leaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(15, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) + 20 * x[:, 10:]

    x = torch.randn(256, 10)
    y = torch.randint(0, 5, (256,))
    leaked = torch.cat([x, F.one_hot(y, 5).float()], 1)
    made = Recipe(model=Leaking(), train_loader=DataLoader(TensorDataset(leaked, y), 64), loss_fn=nn.CrossEntropyLoss())
    start = initial_loss(_sandbox(made))
    assert start.levels[0].loss < 0.1
    assert start.shuffled is not None
    assert start.shuffled < 0.1
    assert initial_loss(_sandbox(recipe())).shuffled is None


def test_the_maker_of_the_input_is_named_through_views_and_clamps() -> None:
    def loss_fn(z: Tensor, y: Tensor) -> Tensor:
        p = z.softmax(1).clamp(1e-6, 1 - 1e-6)
        return F.cross_entropy(p.unsqueeze(2), y[:, None])

    item = loss_inputs(_sandbox(recipe(loss_fn=loss_fn))).inputs[0]
    assert item.made_by is not None
    assert (item.made_by.name, item.made_by.dim) == ("softmax", 1)
    assert item.made_by.place.source == "p = z.softmax(1).clamp(1e-6, 1 - 1e-6)"
    assert item.row_sums_off < 1e-4
    plain = loss_inputs(_sandbox(recipe())).inputs[0]
    assert plain.made_by is None
    assert plain.row_sums_off > 0.1


def test_scores_are_followed_back_to_their_positions() -> None:
    right = target_pairing(_sandbox(tagging(nn.CrossEntropyLoss()))).layouts[0]
    assert (right.mixed, right.touched) == (0, 1)
    viewed = target_pairing(_sandbox(tagging(lambda z, y: F.cross_entropy(z.reshape(-1, 5), y.flatten())))).layouts[0]
    assert (viewed.mixed, viewed.touched) == (320, 5)
    swapped = target_pairing(_sandbox(tagging(lambda z, y: F.cross_entropy(z.transpose(1, 2), y)))).layouts[0]
    assert (swapped.mixed, swapped.swapped) == (320, 320)


def test_the_best_bias_and_its_layer() -> None:
    labels = label_baseline(_sandbox(recipe()))
    y = torch.cat([batch[1] for batch in recipe().train_loader])
    shares = torch.bincount(y).double() / len(y)
    assert labels.labels == 640
    assert labels.head_name == "head"
    assert labels.bias == pytest.approx(tuple(shares.log().tolist()), abs=1e-6)
    assert labels.constant == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-6)


def test_names_as_code() -> None:
    assert spelled("blocks.0.head") == "model.blocks[0].head"
    assert spelled("2") == "model[2]"


def test_cost() -> None:
    sandbox = _sandbox(recipe())
    for probe in (initial_loss, loss_inputs, target_pairing, label_baseline):
        probe(sandbox)
    assert sandbox.meter.train_steps == pytest.approx(7 / 3)


@pytest.mark.parametrize(("rate", "rises"), [(0.2 / 64, False), (1.0, True)])
def test_a_sum_is_tried_with_the_users_optimizer(rate: float, rises: bool) -> None:
    made = recipe(loss_fn=nn.CrossEntropyLoss(reduction="sum"))
    made = dataclasses.replace(made, optimizer=torch.optim.SGD(made.model.parameters(), lr=rate))
    trial = initial_loss(_sandbox(made)).summed
    assert trial is not None
    assert (trial.after > 1.2 * trial.before) == rises
    assert trial.after_mean < trial.before


def _tenth(loss_fn: Loss, head: Callable[[Classifier], None] | None = None) -> Recipe:
    """One label in ten is positive, whatever the first batch holds."""
    made = recipe(head, loss_fn, classes=1)
    x, y = torch.randn(1280, 10), torch.arange(1280) % 10
    order = torch.cat([torch.arange(0, 320, 10), torch.arange(1280)[torch.arange(1280) % 10 != 0][:32]])
    rest = torch.tensor(sorted(set(range(1280)) - set(order.tolist())))
    order = torch.cat([order, rest])
    return dataclasses.replace(made, train_loader=DataLoader(TensorDataset(x[order], y[order]), batch_size=64))


def _is_zero(z: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(z.squeeze(1), (y == 0).float())


def test_the_constant_is_that_of_all_labels_also_where_the_loss_translates_them() -> None:
    labels = label_baseline(_sandbox(_tenth(_is_zero, _zero)))
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert labels.labels == 1280
    assert labels.constant == pytest.approx(entropy, abs=1e-6)
    assert labels.here > labels.constant + 0.5  # half of the first batch is positive
    assert labels.drawn == pytest.approx(math.log(2), abs=1e-6)
    spread = math.log(9) * 0.3  # standard deviation of a rate of 0.1, times the difference of the two losses
    assert labels.error == pytest.approx(spread / math.sqrt(1280), rel=1e-3)


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.arange(1.0, 6.0), label_smoothing=0.1),
        lambda z, y: F.nll_loss(z.log_softmax(1), y),
        lambda z, y: F.binary_cross_entropy(z.sigmoid(), F.one_hot(y, 5).float()),
        lambda z, y: F.binary_cross_entropy_with_logits(z, F.one_hot(y, 5).float(), pos_weight=torch.full((5,), 4.0)),
    ],
)
def test_with_one_output_for_all_drawn_labels_cost_what_labels_cost(loss_fn: Loss) -> None:
    def constant(model: Classifier) -> None:
        nn.init.zeros_(model.head.weight)

    made = recipe(constant, loss_fn)
    x, y = made.train_loader.dataset.tensors
    whole = dataclasses.replace(made, train_loader=DataLoader(TensorDataset(x, y), batch_size=640))
    assert label_baseline(_sandbox(whole)).drawn == pytest.approx(label_baseline(_sandbox(whole)).loss, rel=1e-5)


def test_targets_that_are_no_labels_are_told() -> None:
    binary = (torch.rand(128, 10) < 0.1).float()
    head = nn.Sequential(nn.Linear(10, 4), nn.Linear(4, 10))
    same = DataLoader(TensorDataset(binary, binary), batch_size=32)
    shifted = DataLoader(TensorDataset(binary * 3 - 1, binary), batch_size=32)
    other = DataLoader(TensorDataset(torch.randn(128, 10), binary), batch_size=32)
    soft = DataLoader(TensorDataset(torch.randn(128, 10), binary * 0.9), batch_size=32)
    wanted = {same: "reconstruction", shifted: "reconstruction", other: "", soft: "soft targets"}
    for loader, unusual in wanted.items():
        made = Recipe(model=head, train_loader=loader, loss_fn=nn.BCEWithLogitsLoss())
        assert label_baseline(_sandbox(made)).unusual == unusual


@pytest.mark.parametrize(("symbols", "unusual"), [(30, "language model"), (400, "")])
def test_classes_that_are_the_models_own_symbols_make_a_language_model(symbols: int, unusual: str) -> None:
    model = nn.Sequential(nn.Embedding(symbols, 8), nn.Linear(8, 28))
    tokens = torch.randint(0, 28, (64, 12))
    made = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(tokens, tokens.roll(-1, 1)), batch_size=16),
        loss_fn=lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten()),
    )
    assert label_baseline(_sandbox(made)).unusual == unusual


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        (torch.arange(8), 8, True),
        ((torch.arange(8) + 4) % 8, 8, True),  # second views come after all first ones
        (torch.arange(8) ^ 1, 8, True),  # or between them
        (torch.cat([torch.arange(3, 7), torch.arange(4)]), 7, True),  # each row's own column left out
        (torch.arange(8) * 2, 20, True),  # one hard negative for each, and another device's
        (torch.zeros(8, dtype=torch.long), 65, True),  # the right one first, then a queue
        (torch.tensor([3, 1, 4, 1, 5, 2, 6, 5]), 8, False),
        (torch.tensor([7, 3, 9, 0, 5]), 10, False),
        (torch.tensor([0, 1, 0, 1, 1, 0]), 2, False),
    ],
)
def test_contrastive_labels_are_told_by_their_order(labels: Tensor, count: int, expected: bool) -> None:
    assert by_position(labels, count) == expected


def test_a_frozen_output_layer_was_learned_elsewhere() -> None:
    def frozen(model: Classifier) -> None:
        model.head.requires_grad_(False)

    def body(model: Classifier) -> None:
        model.body.requires_grad_(False)

    assert "`head.weight`" in initial_loss(_sandbox(recipe(frozen))).trained
    assert initial_loss(_sandbox(recipe(body))).trained == ""


def test_the_trial_of_a_sum_takes_quarter_batches() -> None:
    made = recipe(loss_fn=nn.CrossEntropyLoss(reduction="sum"))
    sandbox = _sandbox(dataclasses.replace(made, optimizer=torch.optim.SGD(made.model.parameters(), lr=1e-3)))
    assert initial_loss(sandbox).summed is not None
    # 4 forward passes of whole batches, and twice 8 updates with a quarter and a forward pass of the whole
    assert sandbox.meter.train_steps == pytest.approx((4 + 2 * (8 * 3 / 4 + 1)) / 3)


@pytest.mark.parametrize(
    ("scores", "compared"),
    [
        (lambda a, b, w: a @ b.t() / 0.1, True),
        (lambda a, b, w: (a @ b.t()).masked_fill(torch.eye(6).bool(), -1e9), True),
        (lambda a, b, w: torch.cat([(a * b).sum(1, keepdim=True), a @ w.t()], 1), True),
        (lambda a, b, w: -((a[:, None] - b[None]) ** 2).sum(-1), True),
        (lambda a, b, w: -(torch.cdist(a, b) ** 2), True),
        (lambda a, b, w: a @ w.t(), False),
        (lambda a, b, w: F.linear((a @ b.t()).softmax(1) @ b, w, w.sum(1)), False),  # attention, then an output layer
        (lambda a, b, w: F.normalize(a) @ F.normalize(w).t() * 64, False),
        (lambda a, b, w: -torch.cdist(a, w), False),
        (lambda a, b, w: F.linear(a * b, w, w.sum(1)), False),
        (lambda a, b, w: (a[None] @ w.t())[0].log_softmax(1), False),
    ],
)
def test_samples_compared_with_samples_are_told_from_weights(scores: Callable[..., Tensor], compared: bool) -> None:
    one, other = nn.Linear(3, 4)(torch.randn(6, 3)), nn.Linear(3, 4)(torch.randn(6, 3)).relu()
    weight = nn.Parameter(torch.randn(5, 4))
    assert compares_activations(scores(one, other, weight).grad_fn) == compared


class _Masks(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(index))
        return {"image": x, "mask": (x[0] > 0).float()}


@pytest.mark.parametrize(("squeezed", "found"), [(False, 1), (True, 0)])
def test_a_target_under_any_key_of_a_training_step_is_seen(squeezed: bool, found: int) -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out = model(batch["image"])
        return ((torch.sigmoid(out.squeeze(1) if squeezed else out) - batch["mask"]) ** 2).mean()

    model = nn.Conv2d(3, 1, 3, padding=1)
    made = Recipe(
        model=model, train_loader=DataLoader(_Masks(), batch_size=8), training_step=step,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )  # fmt: skip
    pairings = target_pairing(_sandbox(made)).pairings
    assert len(pairings) == found
    for pairing in pairings:
        assert pairing.result == (8, 8, 6, 6)
        assert pairing.changed is not None
        assert pairing.changed < 1e-5


def _pinball(error: Tensor) -> Tensor:
    levels = torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(levels * error, (levels - 1) * error).mean()


@pytest.mark.parametrize(
    ("loss_fn", "outputs", "found", "expanded"),
    [
        (lambda z, y: _pinball(y[:, None] - z), 3, 0, False),
        (lambda z, y: _pinball(y[:, None, None] - z), 3, 1, True),
        (
            lambda z, y: _pinball((y[:, None, None] - z).diagonal().T),
            3,
            1,
            True,
        ),  # the samples' own pairs, taken out again
        (lambda z, y: (z[:, None] - y[None, :, None]).square().sum(-1).amin(1).mean(), 3, 0, True),  # as sets
        (lambda z, y: F.mse_loss(z.reshape(-1, 1), y), 2, 0, True),
    ],
)
def test_one_target_each_laid_along_another_dimension(loss_fn: Loss, outputs: int, found: int, expanded: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 6, generator=generator), torch.randn(64, generator=generator)
    model = nn.Linear(6, outputs)
    made = Recipe(
        model=model, train_loader=DataLoader(TensorDataset(x, y), batch_size=32), loss_fn=loss_fn,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )  # fmt: skip
    seen = target_pairing(_sandbox(made))
    assert (len(seen.pairings), seen.expanded) == (found, expanded)
    for pairing in seen.pairings:
        own = "diagonal" in str(loss_fn.__code__.co_names)
        assert pairing.result == (32, 32, 3)
        assert pairing.changed is not None
        assert (pairing.changed > 1e-5) is own


class _Summed(nn.Module):
    """A score that is put together from parts: from a mean and two halves, say, or values with an advantage over their mean."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(6, 4), nn.Linear(6, 4)
        self.mean = nn.Parameter(torch.zeros(2 if form == "two" else 1))
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        match = (self.one(x) * self.other(x)).sum(1)
        return {
            "added": lambda: (match[:, None] + self.mean).squeeze(1),
            "first": lambda: self.mean + match,
            "scaled": lambda: match * self.mean,
            "behind": lambda: torch.relu(match + self.mean),
            "twice": lambda: torch.add(match, self.mean, alpha=2),
            "two": lambda: match + self.mean.sum(),
        }[self.form]()


@pytest.mark.parametrize(
    ("form", "name"),
    [("added", "mean"), ("first", "mean"), ("scaled", ""), ("behind", ""), ("twice", ""), ("two", "")],
)
def test_a_mean_that_is_added_to_the_outputs_is_their_bias(form: str, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(256, 6, generator=generator), 3.5 + torch.randn(256, generator=generator) / 2
    model = _Summed(form)
    made = Recipe(
        model=model, train_loader=DataLoader(TensorDataset(x, y), batch_size=32), loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.1),
    )  # fmt: skip
    labels = label_baseline(_sandbox(made))
    assert (labels.head_name, labels.head_type) == (name, "Parameter" if name else "")
    assert (labels.head is not None) is bool(name)
    assert labels.bias == pytest.approx((float(y.mean()),), rel=1e-4)
    assert (labels.updates is not None) is bool(name)


def _focal(alpha: float, gamma: float) -> Loss:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        wanted = F.one_hot(y, 5).float()
        each = F.binary_cross_entropy_with_logits(z, wanted, reduction="none")
        weight = alpha * wanted + (1 - alpha) * (1 - wanted)
        return (weight * (1 - torch.exp(-each)) ** gamma * each).mean()

    return loss


@pytest.mark.parametrize(
    ("loss_fn", "weight", "against"),
    [
        (_focal(0.25, 2.0), None, (0, 0)),
        (_focal(2.0, 0.25), None, (64 * 4, 0)),
        (_focal(-1.0, 0.0), None, (0, 64)),
        (lambda z, y: F.binary_cross_entropy_with_logits(z, F.one_hot(y, 5).float()) * 3, 3.0, (0, 0)),
        (lambda z, y: 4 * F.kl_div(z.log_softmax(1), F.one_hot(y, 5).float()) + z.square().mean(), 4.0, (0, 0)),
        (lambda z, y: F.cross_entropy(z, y, reduction="none").mean(), None, (0, 0)),
    ],
)
def test_what_the_final_loss_makes_of_a_call(loss_fn: Loss, weight: float | None, against: tuple[int, int]) -> None:
    (use,) = initial_loss(_sandbox(recipe(loss_fn=loss_fn))).uses
    assert use.weight == (None if weight is None else pytest.approx(weight))
    assert use.against == against
