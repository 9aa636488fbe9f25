"""The gradient probe on hand-set weights, against plain autograd, and on set-ups that need a second look."""

import random

import pytest
import torch
from torch import Tensor, nn

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.observe.norms import norms, peaks
from nncheck.probes.first_step import first_step
from nncheck.probes.gradients import STEPS, Gradients, ParameterGradients, gradients
from nncheck.probes.unreached import Unreached, unreached
from nncheck.target.assemble import assemble


def sandbox(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **parts: object) -> Sandbox:
    x = torch.arange(12.0).reshape(6, 2) / 6 - 1
    recipe = Recipe(
        model=model,
        train_loader=[(x[:3], x[:3, :1] + 1), (x[3:], x[3:, :1] + 1)],
        optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=0.1),
        **{"loss_fn": nn.MSELoss(), **parts},
    )
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def measure(box: Sandbox) -> tuple[Gradients, Unreached]:
    steps = gradients(box)
    return steps, unreached(box, steps)


def named(steps: Gradients, name: str) -> ParameterGradients:
    return next(p for p in steps.parameters if p.name == name)


def linear() -> nn.Linear:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.fill_(0.5)
    return model


def test_the_same_as_plain_autograd() -> None:
    box = sandbox(linear())
    seen = gradients(box)
    twin = linear()
    expected, losses, sizes = [], [], []
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    for step in range(STEPS):
        x, y = box.feed.take(2)[step % 2]
        plain.zero_grad()
        loss = ((twin(x) - y) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        expected.append(twin.weight.grad.norm().item())
        sizes.append(twin.weight.norm().item())
        plain.step()
    row = named(seen, "weight")
    assert seen.losses == pytest.approx(losses)
    assert row.gradients == pytest.approx(expected)
    assert row.weight == pytest.approx(sizes)
    assert row.moved
    assert row.rate == pytest.approx(0.1)
    assert not row.drifted
    assert box.meter.train_steps == pytest.approx(STEPS)


def test_everything_is_put_back() -> None:
    model = linear()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(sandbox(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.weight.grad is None


def test_a_rate_of_zero_is_helped_along_by_the_control_step() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    nn.init.zeros_(model[1].weight)
    seen = gradients(sandbox(model, torch.optim.SGD(model.parameters(), lr=0.0)))
    assert seen.control
    row = named(seen, "0.weight")
    assert row.peaks[0] == 0
    assert not row.silent
    assert not row.moved


def test_rows_that_start_equal() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    nn.init.constant_(model[0].weight, 0.5)
    nn.init.zeros_(model[0].bias)
    nn.init.constant_(model[2].weight, 0.5)
    row = named(gradients(sandbox(model)), "0.weight")
    assert row.alike_before
    assert row.alike_after
    assert named(gradients(sandbox(nn.Linear(2, 1))), "bias").alike_before is None


def test_an_optimizer_that_raises_or_wants_a_closure() -> None:
    class Raising(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            raise RuntimeError("no")

    class Closing(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            assert closure is not None, "needs a closure"

    model = linear()
    assert "no" in gradients(sandbox(model, Raising(model.parameters(), lr=0.1))).step_error
    closing = gradients(sandbox(model, Closing(model.parameters(), lr=0.1)))
    assert not closing.step_error
    assert not closing.stepped
    assert not gradients(sandbox(model, torch.optim.LBFGS(model.parameters()))).stepped


def test_a_graph_left_over_from_the_step_before() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raw = nn.Linear(2, 1)
            self.once = (self.raw.weight * 2).exp()

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.once.T

    assert "second time" in gradients(sandbox(Once())).backward_error


class Parts(nn.Module):
    """Every way to stay without gradient, beside one that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.learns = nn.Linear(2, 1)
        self.idle = nn.Linear(2, 1)
        self.cut = nn.Linear(2, 1)
        self.quiet = nn.Linear(2, 1)
        self.dropped = nn.Linear(2, 1)
        self.zeroed = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.dropped(x)
        with torch.no_grad():
            quiet = self.quiet(x)
        return self.learns(x) + self.cut(x).detach() + quiet + 0.0 * self.zeroed(x)


def test_why_there_is_no_gradient() -> None:
    found = {b.name: b for b in measure(sandbox(Parts()))[1].branches}
    assert {name: b.why for name, b in found.items() if not b.silent} == {
        "idle": "never used",
        "cut": "cut",
        "quiet": "no_grad",
        "dropped": "dropped",
    }
    assert found["zeroed"].silent
    assert found["zeroed"].zeroed
    assert found["cut"].cut == "detach()"
    line = found["cut"].line
    assert line is not None
    assert line.source is not None
    assert "self.cut(x).detach()" in line.source


def test_blocks_that_are_dropped_at_random_are_waited_for() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(12))
            self.head = nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                if random.random() < 0.5:
                    x = x + block(x)
            return self.head(x)

    for seed in range(5):
        torch.manual_seed(seed)
        assert not measure(sandbox(Deep()))[1].branches


def test_nothing_to_explain_costs_nothing() -> None:
    box = sandbox(linear())
    steps = gradients(box)
    before = box.meter.train_steps
    assert unreached(box, steps).branches == ()
    assert box.meter.train_steps == before


def test_cost_does_not_grow_with_depth() -> None:
    for depth in (2, 60):
        box = sandbox(nn.Sequential(*[nn.Linear(2, 2) for _ in range(depth)], nn.Linear(2, 1)))
        gradients(box)
        assert box.meter.train_steps == pytest.approx(STEPS)


def test_norms() -> None:
    sparse = torch.tensor([3.0, 0.0, 4.0]).to_sparse()
    values = norms([torch.tensor([3.0, 4.0]), None, torch.empty(0), sparse, torch.tensor([60000.0] * 4).half()])
    assert values == pytest.approx([5.0, None, 0.0, 5.0, 120000.0])
    assert peaks([torch.tensor([-3.0, 1.0]), None]) == [3.0, None]
    nan = peaks([torch.tensor([float("nan"), 1.0])])[0]
    assert nan != nan


def test_a_last_batch_of_one() -> None:
    x, y = torch.randn(9, 2), torch.randn(9)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    squeezing = nn.Sequential(nn.Linear(2, 1), Squeeze())
    step = first_step(
        Sandbox(assemble(Recipe(model=squeezing, train_loader=loader, loss_fn=nn.MSELoss())), device=_CPU)
    )
    assert "instead of 1 dimensions" in step.single
    even = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:8], y[:8]), batch_size=4)
    step = first_step(Sandbox(assemble(Recipe(model=squeezing, train_loader=even, loss_fn=nn.MSELoss())), device=_CPU))
    assert step.single == ""


_CPU = torch.device("cpu")


class Squeeze(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze()


def test_swapped_arguments_are_seen_where_they_matter() -> None:
    def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits((target > 0).float(), output)

    assert first_step(sandbox(linear(), loss_fn=cross_entropy)).swapped == "bce-with-logits"
    assert (
        first_step(sandbox(linear(), loss_fn=lambda output, target: nn.functional.mse_loss(target, output))).swapped
        == ""
    )
