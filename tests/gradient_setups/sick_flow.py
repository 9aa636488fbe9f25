"""Gradients that are lost between the loss and the first layer."""

import torch
import torch.nn.functional as F
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Net, expects, loader, recipe, vectors


@expects("gradient-flow")
def loss_made_again() -> Recipe:
    ce = nn.CrossEntropyLoss()
    return recipe(Net(), loss=lambda output, target: torch.tensor(ce(output, target).item(), requires_grad=True))


@expects("gradient-flow")
def requires_grad_on_an_error_rate() -> Recipe:
    return recipe(Net(), loss=lambda output, target: (output.argmax(1) != target).float().mean().requires_grad_())


@expects("gradient-flow")
def rounded_output() -> Recipe:
    return recipe(Net(), loss=lambda output, target: ((output.softmax(1).round() - F.one_hot(target, 4)) ** 2).mean())


@expects("gradient-flow")
def clamped_scores() -> Recipe:
    x, _y = vectors()
    model = nn.Linear(8, 1)
    return recipe(
        model,
        loss=lambda output, target: F.binary_cross_entropy(output.squeeze(1).clamp(0, 1), target),
        data=loader(x, (x[:, 0] > 0).float()),
    )


@expects("gradient-flow")
def cross_entropy_over_one_output() -> Recipe:
    x, y = vectors()
    return recipe(Net(classes=1), data=loader(x, torch.zeros_like(y)))


@expects("gradient-flow")
def clamped_losses() -> Recipe:
    x, _y = vectors()
    g = torch.Generator().manual_seed(1)
    target = x[:, :1] * 3 + torch.randn(256, 1, generator=g) ** 3
    return recipe(
        Net(classes=1),
        loss=lambda output, target: F.mse_loss(output, target, reduction="none").clamp(max=4.0).mean(),
        data=loader(x, target),
    )


@expects("gradient-flow")
def clamped_mean_loss() -> Recipe:
    return recipe(Net(), loss=lambda output, target: F.cross_entropy(output, target).clamp(max=1.0))


@expects("gradient-flow")
def ten_sigmoid_layers() -> Recipe:
    ls = [nn.Linear(8, 32), nn.Sigmoid()]
    for _ in range(8):
        ls += [nn.Linear(32, 32), nn.Sigmoid()]
    return recipe(nn.Sequential(*ls, nn.Linear(32, 4)))
