"""Parts that are not trained, on purpose: frozen, under no_grad, adapters, pretrained weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from tests.healthy.data import images, loader, vectors


def _pretrained(steps: int = 200) -> nn.Sequential:
    """A network that already knows its task."""
    torch.manual_seed(0)
    x, y = vectors()
    model = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


def pretrained_small_rate() -> Recipe:
    model = _pretrained()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def frozen_backbone() -> Recipe:
    """requires_grad is off for the body; the optimizer holds the head only."""
    model = _pretrained()
    model[:-1].requires_grad_(False)
    model[-1] = nn.Linear(32, 4)
    optimizer = torch.optim.Adam(model[-1].parameters(), lr=1e-2)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def backbone_under_no_grad() -> Recipe:
    """A linear probe: the body runs without a graph."""

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = _pretrained()[:-1].eval()
            self.head = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.backbone(x)
            return self.head(features)

    model = Probe()
    optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-2)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


class LoRA(nn.Module):
    """A frozen layer plus a low-rank change whose second factor starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) * 0.1)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


def low_rank_adapters() -> Recipe:
    model = _pretrained()
    model[-1] = nn.Linear(32, 4)
    model[0], model[2] = LoRA(model[0]), LoRA(model[2])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def only_biases_and_the_head() -> Recipe:
    model = _pretrained()
    model[-1] = nn.Linear(32, 4)
    for name, parameter in model[:-1].named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    return Recipe(model=model, train_loader=loader(*vectors()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


def frozen_batch_norm() -> Recipe:
    """Normalisation kept in eval mode while the rest trains."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
            self.conv2, self.head = nn.Conv2d(16, 32, 3, 2, 1), nn.Linear(32, 4)
            self.bn.requires_grad_(False)

        def train(self, mode: bool = True) -> "Net":
            super().train(mode)
            self.bn.eval()
            return self

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.conv2(F.relu(self.bn(self.conv(x))))).mean((2, 3)))

    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    return Recipe(model=model, train_loader=loader(*images()), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)
