"""What these set-ups share: data, a small network, and the lists they enter themselves in."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe

SICK: dict[str, tuple[Callable[[], Recipe], str]] = {}
SOUND: dict[str, Callable[[], Recipe]] = {}


def expects(id: str) -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    """A set-up in which the check `id` must find the fault, as the first."""

    def enter(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
        SICK[function.__name__] = (function, id)
        return function

    return enter


def sound(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """A set-up on which all of these checks must be silent."""
    SOUND[function.__name__] = function
    return function


def loader(x: Tensor, y: Tensor, *, shuffle: bool = True) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=shuffle)


def vectors(count: int = 256) -> tuple[Tensor, Tensor]:
    """Eight numbers a sample, and which of four directions they point to."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 8, generator=generator)
    return x, (x @ torch.randn(8, 4, generator=generator)).argmax(1)


def recipe(
    model: nn.Module, *, loss: Any = None, opt: Any = None, data: Iterable[Any] | None = None, **parts: Any
) -> Recipe:
    trainable = [p for p in model.parameters() if p.requires_grad]
    return Recipe(
        model=model,
        train_loader=data or loader(*vectors()),
        loss_fn=loss or nn.CrossEntropyLoss(),
        optimizer=opt or torch.optim.Adam(trainable, lr=1e-3),
        **parts,
    )


def initialise(model: nn.Module, function: Callable[[Tensor], object]) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            function(layer.weight)
    return model


class Net(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.mid = nn.Linear(32, 32)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.head(F.relu(self.mid(features)) + features)


class Lora(nn.Module):
    """A frozen network with a low-rank addition; both factors zero if `stuck`."""

    def __init__(self, stuck: bool) -> None:
        super().__init__()
        self.base = Net().requires_grad_(False)
        self.A = nn.Parameter(torch.zeros(4, 8) if stuck else torch.randn(4, 8))
        self.B = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.A.T @ self.B.T


class AdaBlock(nn.Module):
    """A residual block whose shift, scale and gate come from a zero-initialised layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32, elementwise_affine=False)
        self.inner = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 32))
        self.ada = zero(nn.Linear(32, 96))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.ada(F.silu(condition)).chunk(3, -1)
        return x + gate * self.inner(self.norm(x) * (1 + scale) + shift)


class DiT(nn.Module):
    """The diffusion transformer's way to start: every block and the last layer are silent."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 32)
        self.condition = nn.Linear(8, 32)
        self.blocks = nn.ModuleList(AdaBlock() for _ in range(4))
        self.norm = nn.LayerNorm(32, elementwise_affine=False)
        self.ada = zero(nn.Linear(32, 64))
        self.leave = zero(nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        condition, x = self.condition(x), self.enter(x)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.ada(F.silu(condition)).chunk(2, -1)
        return self.leave(self.norm(x) * (1 + scale) + shift)


def zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
