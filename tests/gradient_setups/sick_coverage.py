"""Parameters that the optimizer does not hold, or holds in vain."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Net, expects, recipe


@expects("optimizer-coverage")
def layers_in_a_list() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(8, 32)
            self.layers = [nn.Linear(32, 32) for _ in range(3)]
            self.head = nn.Linear(32, 4)

        def forward(self, x):
            x = self.inp(x).relu()
            for layer in self.layers:
                x = layer(x).relu()
            return self.head(x)

    return recipe(Model())


@expects("optimizer-coverage")
def layers_in_a_dict() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(8, 32)
            self.heads = {"a": nn.Linear(32, 4)}

        def forward(self, x):
            return self.heads["a"](self.inp(x).relu())

    return recipe(Model())


@expects("optimizer-coverage")
def plain_tensor() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(8, 32)
            self.w = torch.randn(32, 4, requires_grad=True)

        def forward(self, x):
            return self.inp(x).relu() @ self.w

    return recipe(Model())


@expects("optimizer-coverage")
def computed_once() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(8, 32)
            self.w = nn.Parameter(torch.randn(32, 4)) * 0.01

        def forward(self, x):
            return self.inp(x).relu() @ self.w

    return recipe(Model())


@expects("optimizer-coverage")
def layer_made_in_forward() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp = nn.Linear(8, 32)
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            return self.head(nn.Linear(32, 16)(self.inp(x).relu()).relu())

    return recipe(Model())


@expects("optimizer-coverage")
def optimizer_given_the_head_only() -> Recipe:
    model = Net()
    return recipe(model, opt=torch.optim.Adam(model.head.parameters(), lr=1e-3))


@expects("optimizer-coverage")
def head_replaced_after_the_optimizer() -> Recipe:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.head = nn.Linear(32, 4)
    return recipe(model, opt=optimizer)


@expects("optimizer-coverage")
def model_made_again() -> Recipe:
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model = Net()
    return recipe(model, opt=optimizer)


@expects("optimizer-coverage")
def freezing_loop_matches_the_wrong_names() -> Recipe:
    model = nn.Sequential(
        nn.Linear(8, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 4),
    )
    for p in model.parameters():
        p.requires_grad_(False)
    model[1].weight.requires_grad_(True)
    model[1].bias.requires_grad_(True)
    return recipe(model)


@expects("optimizer-coverage")
def require_grad() -> Recipe:
    model = Net()
    for p in model.body.parameters():
        p.require_grad = False
    return recipe(model)


@expects("optimizer-coverage")
def requires_grad_on_a_module() -> Recipe:
    model = Net()
    model.body.requires_grad = False
    return recipe(model)


@expects("optimizer-coverage")
def group_with_rate_zero() -> Recipe:
    model = Net()
    return recipe(
        model,
        opt=torch.optim.SGD(
            [
                {"params": model.body.parameters(), "lr": 0.0},
                {"params": [*model.mid.parameters(), *model.head.parameters()]},
            ],
            lr=0.1,
        ),
    )


@expects("optimizer-coverage")
def updates_a_copy() -> Recipe:
    class Bad(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            for g in self.param_groups:
                for p in g["params"]:
                    if p.ndim == 1:
                        p.sub_(p.grad * g["lr"])
                    else:
                        p = p - p.grad * g["lr"]

    model = Net()
    return recipe(model, opt=Bad(model.parameters(), lr=0.1))


@expects("optimizer-coverage")
def loss_centres() -> Recipe:
    class Arc(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, output, target):
            return F.cross_entropy(8 * F.normalize(output) @ F.normalize(self.w).T, target)

    return recipe(Net(), loss=Arc())


@expects("optimizer-coverage")
def teacher_in_the_optimizer() -> Recipe:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = Net()
            self.teacher = copy.deepcopy(self.student)

        def forward(self, x):
            return self.student(x), self.teacher(x)

    return recipe(
        Model(), loss=lambda output, target: F.cross_entropy(output[0], target) + F.mse_loss(output[0], output[1])
    )
