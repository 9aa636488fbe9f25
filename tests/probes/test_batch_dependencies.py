"""batch-mixing's measurement, on models that couple samples and on models that only look like it."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import nncheck
from nncheck import Recipe
from nncheck.checks.wiring.batch_mixing import batch_mixing
from nncheck.errors import CannotMeasure
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.batch_dependencies import BatchDependencies, batch_dependencies
from nncheck.target.assemble import assemble
from nncheck.verdict import Status

B, T, E, C = 24, 6, 8, 3


def measure(recipe: Recipe) -> BatchDependencies:
    sandbox = Sandbox(assemble(recipe), device=torch.device("cpu"))
    return batch_dependencies(sandbox)


def sequences(model: nn.Module, *, batch: int = B, loss_fn: Any = None, collate: Any = None, **parts: Any) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, T, E, generator=generator), torch.randint(C, (64,), generator=generator)
    loader = DataLoader(TensorDataset(x, y), batch_size=batch, collate_fn=collate)
    return Recipe(model=model, train_loader=loader, loss_fn=loss_fn or nn.CrossEntropyLoss(), **parts)


def tokens(model: nn.Module, **parts: Any) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(20, (64, T + 1), generator=generator)
    loader = DataLoader(TensorDataset(x[:, :-1], x[:, 1:]), batch_size=B)
    return Recipe(model=model, train_loader=loader, **parts)


class Forward(nn.Module):
    """A model whose forward is a function of itself and its input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def head() -> nn.Linear:
    return nn.Linear(E, C)


def attention_over_batch(m: Any, x: Tensor) -> Tensor:
    h = x.mean(1)
    return m.head(torch.softmax(m.q(h) @ m.k(h).T, -1) @ h)


def expert_capacity(m: Any, x: Tensor) -> Tensor:
    h = x.mean(1)
    gates = torch.softmax(m.gate(h), -1)
    top = gates.argmax(-1)
    chosen = F.one_hot(top, 4)
    kept = chosen * (chosen.cumsum(0) * chosen <= 2)  # at most two samples for each expert
    outputs = torch.stack([m.a(h), m.b(h), m.a(-h), m.b(-h)], 1)
    return m.head(((gates * kept).unsqueeze(-1) * outputs).sum(1))


def rotated(t: Tensor) -> Tensor:
    return torch.cat([t[1:], t[:1]])


POSITIONS = torch.randn(100, 1, E, generator=torch.Generator().manual_seed(1))

MIXING: dict[str, Callable[[], Recipe]] = {
    "view for transpose": lambda: sequences(
        Forward(lambda m, x: m.head(m.gru(x.view(T, -1, E))[0][-1]), gru=nn.GRU(E, E), head=head())
    ),
    "lstm without batch_first": lambda: sequences(
        Forward(lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(E, E), head=head())
    ),
    "encoder without batch_first": lambda: sequences(
        Forward(lambda m, x: m.head(m.layer(x).mean(1)), layer=nn.TransformerEncoderLayer(E, 2, 16), head=head())
    ),
    "attention without batch_first": lambda: sequences(
        Forward(lambda m, x: m.head(m.a(x, x, x)[0].mean(1)), a=nn.MultiheadAttention(E, 2), head=head())
    ),
    "softmax over the batch": lambda: sequences(
        Forward(lambda m, x: torch.log_softmax(m.head(x.mean(1)), 0), head=head()), loss_fn=nn.NLLLoss()
    ),
    "softmax over heads' first dimension": lambda: sequences(
        Forward(lambda m, x: m.head((torch.softmax(x @ x.transpose(1, 2), 0) @ x).mean(1)), head=head())
    ),
    "batch mean taken off": lambda: sequences(Forward(lambda m, x: m.head((x - x.mean(0)).mean(1)), head=head())),
    "attention between samples": lambda: sequences(
        Forward(attention_over_batch, q=nn.Linear(E, E), k=nn.Linear(E, E), head=head())
    ),
    "first sample for all": lambda: sequences(
        Forward(lambda m, x: m.head(x[:1].expand_as(x).mean(1) + 0 * x.mean(1)), head=head())
    ),
    "rows rotated": lambda: sequences(Forward(lambda m, x: m.head(rotated(x.mean(1))), head=head())),
    "tokens": lambda: tokens(
        Forward(lambda m, x: m.head(m.e(x).view(T, -1, E).transpose(0, 1)).flatten(0, 1), e=nn.Embedding(20, E),
                head=nn.Linear(E, 20)),
        loss_fn=lambda out, y: F.cross_entropy(out, y.flatten()),
    ),
    "one sample's last step": lambda: sequences(
        Forward(lambda m, x: m.head(m.lstm(x)[0][-1]), lstm=nn.LSTM(E, E, batch_first=True), head=head()), batch=T
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_mixing_is_found_and_placed(name: str) -> None:
    deps = measure(MIXING[name]())
    verdict = batch_mixing(deps)
    assert verdict.status is Status.FAIL, verdict
    assert deps.leaking > 0
    assert deps.mixing is not None
    assert deps.mixing.place is not None
    assert deps.mixing.place.file is not None
    assert deps.mixing.place.file.endswith("test_batch_dependencies.py")
    assert verdict.exhibits


def test_the_line_where_mixing_starts_is_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(E, E)
            self.head = head()

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.first(x))
            h = h.mean(1)
            h = h / h.norm(dim=0)  # here
            return self.head(h)

    deps = measure(sequences(Net()))
    assert deps.mixing is not None
    assert deps.mixing.place is not None
    assert deps.mixing.place.source == "h = h / h.norm(dim=0)  # here"


def test_position_counted_along_the_batch() -> None:
    wrong = sequences(
        Forward(lambda m, x: m.head((x + POSITIONS[: x.size(0)]).mean(1)), head=head()),
    )
    deps = measure(wrong)
    assert deps.leaking == 0
    assert deps.swap.change is not None
    assert deps.swap.change > 0.01
    assert deps.swap.moved == 1
    assert deps.swap.place is not None
    assert "POSITIONS" in (deps.swap.place.source or "")
    assert batch_mixing(deps).status is Status.FAIL


def test_reach_of_a_rotation_is_exact() -> None:
    deps = measure(MIXING["rows rotated"]())
    assert deps.mixing is not None
    size = len(deps.mixing.reach)
    expected = tuple(tuple(float(j == (i + 1) % size) for j in range(size)) for i in range(size))
    assert deps.mixing.reach == expected


def test_every_pair_in_two_passes_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any single coupled pair of a batch of 16 is found, in at most 2 * ceil(log2 16) backward passes."""
    x, y = torch.randn(16, E), torch.randint(C, (16,))
    for i, j in [(0, 1), (15, 0), (7, 8), (3, 12), (10, 11)]:

        def coupled(m: Any, x: Tensor, i: int = i, j: int = j) -> Tensor:
            pull = torch.zeros(len(x), len(x))
            if len(x) > max(i, j):
                pull[i, j] = 1.0
            return m.head(x + pull @ x)

        recipe = Recipe(
            model=Forward(coupled, head=head()), train_loader=[(x, y)], loss_fn=nn.CrossEntropyLoss()
        )  # fmt: skip
        calls = 0
        grad = Sandbox.grad

        def counted(self: Sandbox, *args: Any, grad: Any = grad, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return grad(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Sandbox, "grad", counted)
            patch.setattr("nncheck.probes.batch_dependencies._locate", lambda *a, **k: None)
            deps = measure(recipe)
        assert deps.leaking == 2 * bin(i ^ j).count("1") / 2, (i, j)
        assert calls <= 8


class Dicts(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(20, (T,), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones(T, dtype=torch.long), "labels": ids}


class Language(nn.Module):
    def __init__(self, *, flat: bool = False, wrong: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, E)
        self.gru = nn.GRU(E, E)
        self.out = nn.Linear(E, 20)
        self.flat, self.wrong = flat, wrong

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.embedding(input_ids)
        if attention_mask is not None:
            x = x * attention_mask.unsqueeze(-1).float()
        h = self.gru(x.reshape(T, -1, E) if self.wrong else x.transpose(0, 1))[0].transpose(0, 1)
        logits = self.out(h)
        if labels is None:
            return logits
        loss = F.cross_entropy(logits.reshape(-1, 20), labels.reshape(-1))
        return {"loss": loss} if self.flat else {"loss": loss, "logits": logits}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("wrong", [False, True])
def test_dict_batches_of_integers(flat: bool, wrong: bool) -> None:
    recipe = Recipe(model=Language(flat=flat, wrong=wrong), train_loader=DataLoader(Dicts(), batch_size=B))
    verdict = batch_mixing(measure(recipe))
    assert (verdict.status is Status.FAIL) == wrong, verdict
    assert wrong or verdict.status is Status.PASS


def test_training_step_with_mixup_before_the_model() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        order = torch.randperm(len(x))
        mixed = 0.7 * x + 0.3 * x[order]
        out = model(mixed)
        return 0.7 * F.cross_entropy(out, y) + 0.3 * F.cross_entropy(out, y[order])

    recipe = sequences(Forward(lambda m, x: m.head(x.mean(1)), head=head()), training_step=step)
    assert batch_mixing(measure(recipe)).status is Status.PASS


def time_first(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(E, E)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.normalize(self.body(x[:, 0]), dim=-1), F.normalize(self.body(x[:, 1]), dim=-1)
        return a @ b.T / 0.1


class Bank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = head()
        self.register_buffer("seen", torch.zeros(B, E))

    def forward(self, x: Tensor) -> Tensor:
        h = x.mean(1)
        old = self.seen[: len(h)].clone()
        self.seen[: len(h)] = h.detach()
        return self.head(h + old)


def contrast(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out, torch.arange(len(out)))


QUIET: dict[str, Callable[[], Recipe]] = {
    "batchnorm": lambda: sequences(Forward(lambda m, x: m.head(m.bn(x.mean(1))), bn=nn.BatchNorm1d(E), head=head())),
    "time first": lambda: sequences(
        Forward(lambda m, x: m.head(m.lstm(x)[0][-1]), lstm=nn.LSTM(E, E), head=head()), collate=time_first
    ),
    "time first outputs": lambda: sequences(
        Forward(lambda m, x: m.head(m.lstm(x)[0]), lstm=nn.LSTM(E, E), head=head()),
        collate=time_first,
        loss_fn=lambda out, y: F.cross_entropy(out[-1], y),
    ),
    "two views in one batch": lambda: sequences(
        Forward(lambda m, x: m.head(torch.cat([x[:, 0], x[:, 1]])), head=head()),
        loss_fn=lambda out, y: F.cross_entropy(out, y.repeat(2)),
    ),
    "flat logits": lambda: tokens(
        Forward(lambda m, x: m.head(m.e(x)).flatten(0, 1), e=nn.Embedding(20, E), head=nn.Linear(E, 20)),
        loss_fn=lambda out, y: F.cross_entropy(out, y.flatten()),
    ),
    "similarity matrix": lambda: sequences(Siamese(), loss_fn=contrast),
    "capacity of experts": lambda: sequences(
        Forward(expert_capacity, gate=nn.Linear(E, 4), a=nn.Linear(E, E), b=nn.Linear(E, E), head=head())
    ),
    "memory": lambda: sequences(Bank()),
    "always random": lambda: sequences(Forward(lambda m, x: m.head(F.dropout(x.mean(1), 0.5)), head=head())),
    "zero gradient at a root": lambda: sequences(
        Forward(lambda m, x: m.head((x.mean(1).relu() - 9).relu().sqrt()), head=head())
    ),
    "in place on the input": lambda: sequences(Forward(lambda m, x: m.head(x.mul_(2).mean(1)), head=head())),
    "no gradient to the input": lambda: sequences(Forward(lambda m, x: m.head(x.mean(1).detach()), head=head())),
    "graph of nodes": lambda: Recipe(
        model=Forward(lambda m, x: m.head(torch.eye(30).roll(1, 0) @ x), head=head()),
        train_loader=[(torch.randn(30, E), torch.randint(C, (30,)))],
        loss_fn=nn.CrossEntropyLoss(),
    ),
    "one unbatched sequence": lambda: Recipe(
        model=Forward(lambda m, x: m.head(m.lstm(x)[0]), lstm=nn.LSTM(E, E), head=head()),
        train_loader=[(torch.randn(30, E), torch.randint(C, (30,)))],
        loss_fn=nn.CrossEntropyLoss(),
    ),
    "whole batch as one set": lambda: Recipe(
        model=Forward(lambda m, x: m.head(x.mean(0, keepdim=True)), head=head()),
        train_loader=[(torch.randn(30, E), torch.randint(C, (1,)))],
        loss_fn=nn.CrossEntropyLoss(),
    ),
    "packed": lambda: sequences(
        Forward(
            lambda m, x: m.head(
                m.lstm(nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), T), batch_first=True))[1][0][0]
            ),
            lstm=nn.LSTM(E, E, batch_first=True),
            head=head(),
        )
    ),
    "encoder": lambda: sequences(
        Forward(
            lambda m, x: m.head(m.layer(x + POSITIONS[: x.size(1)].transpose(0, 1)).mean(1)),
            layer=nn.TransformerEncoderLayer(E, 2, 16, batch_first=True),
            head=head(),
        )
    ),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_meant_is_not_blamed(name: str) -> None:
    try:
        verdict = batch_mixing(measure(QUIET[name]()))
    except CannotMeasure:
        return  # a skip, with the reason
    assert verdict.status in (Status.PASS, Status.SKIP), verdict


def test_batch_statistics_in_eval_mode_are_a_warning() -> None:
    model = Forward(lambda m, x: m.head(m.bn(x.mean(1))), bn=nn.BatchNorm1d(E, track_running_stats=False), head=head())
    deps = measure(sequences(model))
    assert deps.leaking == 0
    assert [p.name for p in deps.statistics] == ["bn"]
    verdict = batch_mixing(deps)
    assert verdict.status is Status.WARN
    assert verdict.places[0].name == "bn"


def test_cost_stays_within_two_passes_a_bit() -> None:
    case = importlib.import_module("tests.cases.batch_mixing")
    sandbox = Sandbox(assemble(case.healthy()), device=torch.device("cpu"))
    deps = batch_dependencies(sandbox)
    assert deps.passes == 10  # 32 samples
    assert sandbox.meter.train_steps < 8


class ForgetsGradOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x


def test_a_wrong_backward_is_told_once_and_not_as_mixing() -> None:
    recipe = sequences(
        Forward(lambda m, x: m.head(ForgetsGradOutput.apply(m.l(x.mean(1)))), l=nn.Linear(E, E), head=head())
    )
    target = nncheck.check(recipe, select=["batch-mixing", "gradient-check"]).targets[0]
    assert target.findings == ("gradient-check",)
    assert target.check("batch-mixing").status is Status.SKIP


def test_modules_called_one_after_another_by_a_step_swap_their_samples_once() -> None:
    """A Lightning module without a forward: what the body gives goes into two heads."""
    torch.manual_seed(0)

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.GRU(3, 16, batch_first=True)
            self.mean, self.spread = nn.Linear(16, 2), nn.Linear(16, 2)

    def step(model: Heads, batch: list[Tensor]) -> Tensor:
        hidden = model.body(batch[0])[0][:, -1]
        mean, spread = model.mean(hidden), model.spread(hidden)
        return (spread + (batch[1] - mean) ** 2 * torch.exp(-spread)).mean()

    data = TensorDataset(torch.randn(64, 7, 3), torch.randn(64, 2))
    recipe = nncheck.Recipe(model=Heads(), train_loader=DataLoader(data, 16), training_step=step)
    result = nncheck.check(recipe, select=["batch-mixing"]).targets[0].check("batch-mixing")
    assert result.status is Status.PASS, result.summary
