"""A classifier with an activation whose backward is written by hand."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0) ** 2

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x.clamp_min(0) * grad_output


class SquaredReLUWithoutMask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0) ** 2

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad_output


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return -0.1 * grad_output


class Net(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function.apply(self.first(x)))


def _recipe(model: nn.Module) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def _with(function: Any) -> Recipe:
    torch.manual_seed(0)
    return _recipe(Net(function))


def healthy() -> Recipe:
    return _with(SquaredReLU)


def broken() -> Recipe:
    return _with(SquaredReLUWithoutMask)


def fixed() -> Recipe:
    return _with(SquaredReLU)


class Adversarial(Net):
    """One head whose gradient is reversed on its way down, as in domain adaptation."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.second(h) + 0.1 * self.second(Reverse.apply(h))


def near_miss() -> dict[str, Recipe]:
    straight_through = _with(Round)
    torch.manual_seed(0)
    return {"straight-through": straight_through, "reversal": _recipe(Adversarial(Reverse))}
