"""Learning by heart, on networks whose answer is known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.errors import CannotMeasure
from nncheck.lab.pairing import constant_inputs
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.activations import Activations, measure
from nncheck.probes.input_baseline import InputBaseline, input_baseline
from nncheck.probes.overfit import OverfitBatch, overfit
from nncheck.probes.short_run import ShortRun, short_run
from nncheck.target.assemble import assemble


def _sandbox(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    rate: float = 1e-2,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
) -> Sandbox:
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=64),
        loss_fn=loss_fn,
        optimizer=optimizer(model.parameters(), lr=rate),
    )
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def _mlp(inputs: int = 8, outputs: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, outputs))


def _labels(n: int = 512) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 8, generator=generator)
    return x, (x @ torch.randn(8, 4, generator=generator)).argmax(1)


def test_a_plain_network_learns_sixteen_samples_of_every_label() -> None:
    found = overfit(_sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss()))
    assert (found.samples, found.predictions, len(found.runs)) == (16, 16, 1)
    assert found.users.fit
    assert found.users.accuracy == 1.0
    assert found.goal.constant == pytest.approx(math.log(4), rel=0.02)
    assert len(found.table) == 16
    assert found.seen is not None


def test_softmax_twice_ends_at_its_level() -> None:
    found = overfit(_sandbox(nn.Sequential(_mlp(), nn.Softmax(1)), *_labels(), nn.CrossEntropyLoss()))
    assert not found.best.fit
    assert found.best.end == pytest.approx(math.log(1 + 3 / math.e), abs=2e-3)
    level = found.goal.level_at(found.best.end)
    assert level is not None
    assert level.check == "double-softmax"


def test_a_broadcast_loss_ends_at_the_variance() -> None:
    x, _ = _labels()
    y = x[:, 0]
    found = overfit(_sandbox(_mlp(outputs=1), x, y, nn.MSELoss()))
    assert not found.best.fit
    assert found.best.end == pytest.approx(float(y[:16].var(correction=0)), rel=1e-2)


def test_the_floor_of_smoothed_labels_is_known() -> None:
    found = overfit(_sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss(label_smoothing=0.1)))
    assert found.users.fit
    wrong = 0.1 / 4
    assert found.goal.floor == pytest.approx(
        -(3 * wrong * math.log(wrong) + (1 - 3 * wrong) * math.log(1 - 3 * wrong)), abs=1e-4
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reduction_changes_nothing_in_what_is_left(reduction: str) -> None:
    found = overfit(_sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss(reduction=reduction)))
    assert found.goal.constant == pytest.approx(math.log(4), rel=0.02)
    assert found.users.fit


class _Words(nn.Module):
    """Counts of next words for each word: what comes after a word it knows by heart, and nothing of what was before it."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, words)

    def forward(self, words: Tensor) -> Tensor:
        return self.table(words)


def _sentences() -> Tensor:
    """0 begins them all, the next word is one of eight, and each of these goes on in one way; 9 ends them; 10 is padding."""
    first = torch.arange(64) % 8 + 1
    ends = torch.where(first > 4, 9, 10 - first)
    return torch.stack([torch.zeros(64), first, ends, torch.where(ends == 9, 10, 9)], 1).long()


@pytest.mark.parametrize(
    ("inputs", "targets", "left"),
    [
        (_sentences()[:, :-1], _sentences()[:, 1:], True),
        (_sentences(), _sentences()[:, 1:], True),  # the model's own business where it cuts them
        (_sentences()[:, :-1], _sentences()[:, :-1], False),  # nothing is to be foreseen
        (_sentences()[:, :-1], _sentences()[:, 1:].flip(0), False),  # targets of another text
        (torch.cat([_sentences()[:, 1:2], _sentences()[:, :-2]], 1), _sentences()[:, :3], False),  # the first tells
        (torch.cat([torch.arange(64)[:, None] % 11, _sentences()], 1), _sentences(), False),  # no two begin alike
    ],
)
def test_what_the_same_beginning_leaves_open_is_part_of_the_goal(inputs: Tensor, targets: Tensor, left: bool) -> None:
    def loss(output: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output[:, : wanted.size(1)].transpose(1, 2), wanted, ignore_index=10)

    found = overfit(_sandbox(_Words(11), inputs, targets, loss, rate=0.1))
    assert (found.goal.why == "words that the same beginning leaves open") is left
    assert found.goal.lowest <= 0


def test_the_first_word_of_eight_costs_their_entropy() -> None:
    def loss(output: Tensor, wanted: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output.transpose(1, 2), wanted, ignore_index=10)

    rows = _sentences()
    found = overfit(_sandbox(_Words(11), rows[:, :-1], rows[:, 1:], loss, rate=0.1))
    first = rows[: found.samples, 1]
    shares = torch.bincount(first).double() / len(first)
    counted = int((rows[: found.samples, 1:] != 10).sum())
    expected = float(-torch.xlogy(shares, shares).sum()) * len(first) / counted
    assert found.goal.floor == pytest.approx(expected, rel=1e-6)
    assert found.users.fit


def test_a_turned_sign_is_seen() -> None:
    x, y = _labels()
    cross_entropy = nn.CrossEntropyLoss()
    assert overfit(_sandbox(_mlp(), x, y, lambda output, target: -cross_entropy(output, target))).turned
    assert not overfit(_sandbox(_mlp(), x, y, lambda output, target: 0.25 * cross_entropy(output, target))).turned


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sign_of_a_loss_written_by_hand_is_seen(sign: float) -> None:
    """Turned where every label, or every distance, counts the wrong way; not for rewards of either sign."""
    x, y = _labels()

    def likelihood(output: Tensor, target: Tensor) -> Tensor:
        return -sign * output.log_softmax(1).gather(1, target[:, None]).mean()

    def errors(output: Tensor, target: Tensor) -> Tensor:
        return sign * (target.float() - output[:, 0]).abs().mean()

    def rewards(output: Tensor, target: Tensor) -> Tensor:
        gained = torch.linspace(-1, 1, len(target)) + 0.01
        return -sign * (output.log_softmax(1).gather(1, target[:, None])[:, 0] * gained).mean()

    def penalties(output: Tensor, target: Tensor) -> Tensor:
        lost = torch.linspace(0.1, 1, len(target))
        return sign * (output.log_softmax(1).gather(1, target[:, None])[:, 0] * lost).mean()

    for loss in (likelihood, errors):
        assert overfit(_sandbox(_mlp(), x, y, loss)).turned == (sign < 0)
    for loss in (rewards, penalties):
        assert not overfit(_sandbox(_mlp(), x, y, loss)).turned


def test_a_rate_of_zero_is_told_from_a_network_that_cannot() -> None:
    found = overfit(_sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss(), rate=0.0, optimizer=torch.optim.SGD))
    assert found.users.dead
    assert found.best.fit


def test_a_loss_that_falls_without_bound_is_followed_below_zero() -> None:
    found = overfit(_sandbox(_mlp(), *_labels(), nn.NLLLoss()))
    assert found.goal.kind == "nll"
    assert not found.goal.exact
    assert min(found.users.losses) < 0


def test_identical_inputs_with_two_labels_raise_the_floor() -> None:
    x = torch.ones(64, 8) * torch.linspace(0, 1, 8)
    found = overfit(_sandbox(_mlp(outputs=2), x, torch.arange(64) % 2, nn.CrossEntropyLoss()))
    assert found.goal.contradicted == 1.0
    assert found.goal.floor == pytest.approx(math.log(2), abs=1e-6)


def test_few_samples_for_few_parameters() -> None:
    x, _ = _labels()
    found = overfit(_sandbox(nn.Linear(8, 1), x, x[:, :1], nn.MSELoss()))
    assert found.samples == 2


def _inputs(model: nn.Module, x: Tensor, y: Tensor) -> tuple[ShortRun, OverfitBatch, InputBaseline]:
    sandbox = _sandbox(model, x, y, nn.CrossEntropyLoss())
    short, batch = short_run(sandbox), overfit(sandbox)
    return short, batch, input_baseline(sandbox, short, batch)


def test_inputs_that_help_are_ahead_of_both_others() -> None:
    short, _, found = _inputs(_mlp(), *_labels(1024))
    assert found.helps
    assert found.updates == short.fresh == 32
    assert found.over_constant.gap > 0
    assert found.ignored is None


def test_an_ignored_input_is_proven() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x * 0)

    _, _, found = _inputs(Blind(), *_labels())
    assert not found.helps
    assert found.ignored == 0.0


def test_a_large_network_is_trained_again_instead_of_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given = _labels(1024)
    kept, _, with_stand = _inputs(_mlp(), *given)
    for module in ("short_run", "input_baseline"):
        monkeypatch.setattr(f"nncheck.probes.{module}.KEPT_NUMBERS", 0)
    short, _, found = _inputs(_mlp(), *given)
    assert kept.checkpoint is not None
    assert short.checkpoint is None
    assert short.activations == kept.activations
    assert found.helps
    assert found.real[: len(with_stand.real)] == with_stand.real
    assert found.permuted[: len(with_stand.permuted)] == with_stand.permuted


def test_a_large_network_that_starts_at_zero_is_asked_after_a_few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("short_run", "input_baseline"):
        monkeypatch.setattr(f"nncheck.probes.{module}.KEPT_NUMBERS", 0)
    model = _mlp()
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[3].bias)
    _, _, found = _inputs(model, *_labels(1024))
    assert found.helps


def test_the_trained_network_is_measured_at_the_end_of_the_run() -> None:
    sandbox = _sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss())
    found = short_run(sandbox)
    assert isinstance(found.activations, Activations)
    with sandbox.trial(start=found.checkpoint):
        assert measure(sandbox) == found.activations
    assert measure(sandbox) != found.activations


def test_a_diverging_rate_leaves_no_checkpoint() -> None:
    found = short_run(_sandbox(_mlp(), *_labels(), nn.CrossEntropyLoss(), rate=1e3, optimizer=torch.optim.SGD))
    assert found.diverged
    assert found.checkpoint is None


def test_a_checkpoint_holds_the_trained_weights_and_the_users_dropout() -> None:
    model = _mlp()
    before = model[0].weight.detach().clone()
    sandbox = _sandbox(model, *_labels(), nn.CrossEntropyLoss())
    found = short_run(sandbox)
    assert torch.equal(model[0].weight, before)
    with sandbox.trial(start=found.checkpoint):
        assert not torch.equal(model[0].weight, before)
        assert model[2].p == 0.5
    assert torch.equal(model[0].weight, before)


def test_lengths_and_sequences_are_made_constant_together() -> None:
    """A batch of other lengths cannot lend its lengths alone: the packed sequence would end beyond the tensor."""
    short, long = (torch.randn(4, 3, 2), torch.full((4,), 3)), (torch.randn(4, 5, 2), torch.full((4,), 5))
    x, lengths, _ = constant_inputs((*short, torch.zeros(4)), (*long, torch.zeros(4)))
    assert lengths.tolist() == [3, 3, 3, 3]
    assert torch.equal(x, short[0].mean(0, keepdim=True).expand(4, 3, 2))


def test_a_model_that_takes_only_its_own_inputs_is_left_out() -> None:
    """Packed sequences sorted by length: exchanged samples are not sorted any more."""
    g = torch.Generator().manual_seed(0)
    items = [torch.randn(int(n), 2, generator=g) for n in torch.randint(3, 9, (256,), generator=g)]

    def collate(held: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        held = sorted(held, key=len, reverse=True)
        y = torch.tensor([int(x[:, 0].sum() > 0) for x in held])
        return nn.utils.rnn.pad_sequence(held, batch_first=True), torch.tensor([len(x) for x in held]), y

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(2, 8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.gru(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1][-1])

    torch.manual_seed(0)
    model = Packed()
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(items, batch_size=16, collate_fn=collate),  # type: ignore[arg-type]
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2),
        training_step=lambda model, batch: nn.functional.cross_entropy(model(batch[0], batch[1]), batch[2]),
    )
    sandbox = Sandbox(assemble(recipe), device=torch.device("cpu"))
    run = short_run(sandbox)
    with pytest.raises(CannotMeasure, match="cannot take"):
        input_baseline(sandbox, run, overfit(sandbox))


def test_a_graph_left_over_from_before_is_nothing_to_train_with() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 4)
            self.shift = nn.Parameter(torch.randn(8)).exp()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x * self.shift)

    sandbox = _sandbox(Once(), *_labels(), nn.CrossEntropyLoss())
    with pytest.raises(CannotMeasure, match="the backward pass of update 2 fails: Trying to backward"):
        short_run(sandbox)
