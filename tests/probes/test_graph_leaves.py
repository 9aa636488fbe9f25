"""Who is trained and who is forgotten, on models small enough to know the answer."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nncheck.observe.graph import leaves
from nncheck.probes.graph_leaves import graph_leaves
from tests.probes.test_gradients import linear, sandbox


class Holding(nn.Module):
    """A model that hides one more layer somewhere."""

    def __init__(self, hide: Callable[["Holding"], None], call: Callable[["Holding", Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        hide(self)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, self.first(x))


def in_list(model: Holding) -> None:
    model.layers = [nn.Linear(2, 1)]


def in_dict(model: Holding) -> None:
    model.layers = {"last": nn.Linear(2, 1)}


def plain(model: Holding) -> None:
    model.weight = torch.randn(2, 1, requires_grad=True)


def computed(model: Holding) -> None:
    model.weight = nn.Parameter(torch.randn(2, 1)) * 0.5


def nothing(model: Holding) -> None:
    return None


@pytest.mark.parametrize(
    ("hide", "call", "how", "path"),
    [
        (in_list, lambda m, x: m.layers[0](x), "list", "layers[0].weight"),
        (in_dict, lambda m, x: m.layers["last"](x), "dict", "layers['last'].weight"),
        (plain, lambda m, x: x @ m.weight, "tensor", "weight"),
        (computed, lambda m, x: x @ m.weight, "computed", "weight"),
        (nothing, lambda m, x: nn.Linear(2, 1)(x), "forward", "a parameter made in forward"),
    ],
)
def test_unregistered(hide: Callable, call: Callable, how: str, path: str) -> None:
    seen = graph_leaves(sandbox(Holding(hide, call)))
    assert {s.how for s in seen.strays} == {how}
    assert path in {s.path for s in seen.strays}
    assert not seen.uncovered
    assert set(seen.trained) == {"first.weight", "first.bias"}


def test_an_input_that_wants_a_gradient_is_no_stray() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x = batch[0].clone().requires_grad_()
        output = model(x)
        (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return (output - batch[1]).square().mean() + slope.square().mean()

    assert graph_leaves(sandbox(linear(), training_step=step, loss_fn=None)).strays == ()


def test_left_out_replaced_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    head_only = torch.optim.SGD(model[1].parameters(), lr=0.1)
    assert [u.name for u in graph_leaves(sandbox(model, head_only)).uncovered] == ["0.weight", "0.bias"]
    model[0].requires_grad_(False)
    seen = graph_leaves(sandbox(model, head_only))
    assert seen.uncovered == ()
    assert seen.frozen == 2
    model[1] = nn.Linear(2, 1)
    seen = graph_leaves(sandbox(model, head_only))
    assert len(seen.stale) == 2
    assert [u.name for u in seen.uncovered] == ["1.weight", "1.bias"]


def test_another_optimizer_counts() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    other = torch.optim.SGD(model[0].parameters(), lr=0.1)
    seen = graph_leaves(sandbox(model, torch.optim.SGD(model[1].parameters(), lr=0.1)))
    assert all(u.elsewhere for u in seen.uncovered)
    assert other.param_groups


def test_a_loss_with_parameters() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return ((output - target) * self.scale).square().mean()

    (stray,) = graph_leaves(sandbox(linear(), loss_fn=Scaled())).strays
    assert (stray.how, stray.path) == ("loss", "loss_fn.scale")


def test_words_that_freeze_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.require_grad = False
    model[1].requires_grad = False
    seen = graph_leaves(sandbox(model)).typos
    assert [(t.attribute, t.names[0]) for t in seen] == [("require_grad", "0.weight"), ("requires_grad", "1.weight")]
    model.requires_grad_(False)
    model.append(nn.Linear(1, 1))
    assert graph_leaves(sandbox(model)).typos == ()


def test_rates_and_twins() -> None:
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = nn.Linear(2, 1)
            self.teacher = copy.deepcopy(self.student)

        def forward(self, x: Tensor) -> Tensor:
            return self.student(x) + self.teacher(x)

    model = Student()
    groups = [{"params": model.student.parameters(), "lr": 0.0}, {"params": model.teacher.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    seen = graph_leaves(sandbox(model, optimizer))
    assert [(g.rate, g.scheduled) for g in seen.groups] == [(0.0, False), (0.1, False)]
    assert [(t.teacher, t.student) for t in seen.twins] == [("teacher", "student")]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    assert [g.scheduled for g in graph_leaves(sandbox(model, optimizer)).groups] == [False, True]


def test_leaves() -> None:
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    assert leaves((a * b).sum()).keys() == {id(a), id(b)}
    assert leaves((a * b.detach()).sum()).keys() == {id(a)}
    assert leaves(c).keys() == {id(c)}
    assert leaves(torch.ones(2)) == {}
