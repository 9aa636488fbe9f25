"""A residual branch that is part of the graph, or cut out of it."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Residual(nn.Module):
    def __init__(self, *, cut: bool) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.branch = nn.Linear(32, 32)
        self.head = nn.Linear(32, 4)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        extra = self.branch(x).relu()
        if self.cut:
            extra = extra.detach()
        return self.head(x + extra)


def _classifier(model: nn.Module) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3),
    )


def _residual(*, cut: bool) -> Residual:
    torch.manual_seed(0)
    return Residual(cut=cut)


def healthy() -> Recipe:
    return _classifier(_residual(cut=False))


def broken() -> Recipe:
    return _classifier(_residual(cut=True))


def fixed() -> Recipe:
    model = _residual(cut=True)
    model.cut = False
    return _classifier(model)


def near_miss() -> dict[str, Recipe]:
    frozen = _residual(cut=True)
    frozen.branch.requires_grad_(False)
    torch.manual_seed(0)
    return {"frozen and said so": _classifier(frozen), "backbone under no_grad": _classifier(Probe())}


class Probe(nn.Module):
    """A head on a backbone that is run under no_grad and not otherwise frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)
