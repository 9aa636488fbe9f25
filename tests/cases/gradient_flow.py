"""A classifier whose loss is, or is not, clipped where the gradient was meant to be."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _classifier(loss_fn: object, model: nn.Module | None = None) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    if model is None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3)
    )


def healthy() -> Recipe:
    return _classifier(lambda output, target: F.cross_entropy(output, target, reduction="none").mean())


def broken() -> Recipe:
    return _classifier(lambda output, target: F.cross_entropy(output, target, reduction="none").clamp(max=1.4).mean())


def fixed() -> Recipe:
    """The loss is left as it is; the gradient is clipped between backward and step, which is the loop's business."""
    return _classifier(nn.CrossEntropyLoss())


def near_miss() -> dict[str, Recipe]:
    return {
        "clamp that nothing reaches": _classifier(_bounded),
        "branches from zero": _classifier(nn.CrossEntropyLoss(), _residual()),
        "deep": _classifier(nn.CrossEntropyLoss(), _deep()),
    }


def _bounded(output: Tensor, target: Tensor) -> Tensor:
    """A ceiling against overflow, far above any loss there is."""
    return F.cross_entropy(output, target, reduction="none").clamp(max=100.0).mean()


class Branch(nn.Module):
    """A residual branch that starts at zero, as ReZero has it: its weights get no gradient in the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.inner(x).relu()


def _residual() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), Branch(), Branch(), nn.Linear(32, 4))


def _deep() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(8, 32), nn.Tanh()]
    for _ in range(4):
        layers += [nn.Linear(32, 32), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(32, 4))
