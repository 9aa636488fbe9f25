"""A rare class, or targets far from zero, with the output bias at zero or at the best constant."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 64), nn.ReLU())
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).squeeze(1)


def _rare(bias: float | None = None, pos_weight: float | None = None) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2048, 8, generator=generator)
    y = (x[:, 0] + x[:, 1] > 2.3).float()  # about 5 %
    torch.manual_seed(0)
    model = Detector()
    if bias is not None:
        nn.init.constant_(model.head.bias, bias)
    loss_fn = nn.BCEWithLogitsLoss(pos_weight=None if pos_weight is None else torch.tensor(pos_weight))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=loss_fn, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3)
    )


def _far(mean: float) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    y = mean + x @ torch.randn(8, generator=generator) / 2
    torch.manual_seed(0)
    model = Detector()
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    return Recipe(
        model=model, train_loader=loader, loss_fn=nn.MSELoss(), optimizer=torch.optim.Adam(model.parameters(), lr=3e-3)
    )


def healthy() -> Recipe:
    return _rare(bias=-2.9)


def broken() -> Recipe:
    return _rare()


def fixed() -> Recipe:
    return _rare(bias=-2.92)


def _rebuilt() -> Recipe:
    """An autoencoder of sparse binary pixels."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 8, (512,), generator=generator)
    x = (torch.rand(8, 32, generator=generator) < 0.1).float()[codes]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32))
    loader = DataLoader(TensorDataset(x, x), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=loader, loss_fn=nn.BCEWithLogitsLoss(), optimizer=optimizer)


def _counts() -> Recipe:
    """Counts with a mean of about 1.6."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=generator)
    y = torch.poisson(torch.exp(0.3 + x[:, 0] / 2), generator=generator)
    torch.manual_seed(0)
    model = Detector()
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=loader, loss_fn=nn.PoissonNLLLoss(), optimizer=optimizer)


def near_miss() -> dict[str, Recipe]:
    """With pos_weight = (1-p)/p zero is the best bias; targets around zero need none, nor do reconstructions and small counts."""
    return {
        "pos_weight": _rare(pos_weight=18.0),
        "centred": _far(0.0),
        "nearly": _far(1.0),
        "rebuilt": _rebuilt(),
        "counts": _counts(),
    }
