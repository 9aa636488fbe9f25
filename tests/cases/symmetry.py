"""A network whose hidden units start different, or all the same."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


def _classifier(model: nn.Module) -> Recipe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    trainable = [p for p in model.parameters() if p.requires_grad]
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(trainable, lr=3e-3),
    )


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def healthy() -> Recipe:
    return _classifier(_network())


def broken() -> Recipe:
    model = _network()
    nn.init.constant_(model[0].weight, 0.1)
    return _classifier(model)


def fixed() -> Recipe:
    model = _network()
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.kaiming_normal_(model[0].weight)
    return _classifier(model)


def near_miss() -> dict[str, Recipe]:
    head = _network()
    nn.init.zeros_(head[2].weight)
    return {"zero head": _classifier(head), "adapter": _classifier(Adapted())}


class Adapted(nn.Module):
    """A network with a low-rank addition: one factor at random, the other zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = _network()
        self.down = nn.Parameter(torch.randn(4, 8) / 8**0.5)
        self.up = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T
