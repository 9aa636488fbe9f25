"""Units that start, and stay, alike."""

import torch
from torch import nn

from nncheck import Recipe
from tests.gradient_setups.parts import Lora, Net, expects, initialise, loader, recipe


@expects("symmetry")
def constant_everywhere() -> Recipe:
    return recipe(initialise(Net(), lambda w: nn.init.constant_(w, 0.1)))


@expects("symmetry")
def zero_everywhere() -> Recipe:
    model = initialise(Net(), nn.init.zeros_)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return recipe(model)


@expects("symmetry")
def constant_hidden_layer() -> Recipe:
    model = Net()
    nn.init.constant_(model.mid.weight, 0.05)
    nn.init.zeros_(model.mid.bias)
    return recipe(model)


@expects("symmetry")
def zero_hidden_layer() -> Recipe:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return recipe(model)


@expects("symmetry")
def both_factors_zero() -> Recipe:
    return recipe(Lora(True))


@expects("symmetry")
def constant_convolutions() -> Recipe:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.05)
    x = torch.randn(256, 1, 8, 8)
    return recipe(model, data=loader(x, (x.mean((1, 2, 3)) * 30).long().clamp(0, 3)))


@expects("symmetry")
def constant_with_dropout() -> Recipe:
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4)
    )
    return recipe(initialise(model, lambda w: nn.init.constant_(w, 0.1)))
