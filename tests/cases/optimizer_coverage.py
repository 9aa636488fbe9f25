"""Hidden layers in an nn.ModuleList, or in a plain list that hides them from the optimizer."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe


class Stack(nn.Module):
    def __init__(self, *, registered: bool) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        layers = [nn.Linear(32, 32) for _ in range(2)]
        self.layers = nn.ModuleList(layers) if registered else layers
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


def _loader() -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    y = (x @ torch.randn(8, 4, generator=generator)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)


def _classifier(model: nn.Module, *, loss_fn: object = None, parameters: object = None) -> Recipe:
    trainable = [p for p in model.parameters() if p.requires_grad] if parameters is None else parameters
    return Recipe(
        model=model,
        train_loader=_loader(),
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(trainable, lr=3e-3),
    )


class SavedStack(Stack):
    """Its list of layers is saved and loaded by itself."""

    def get_extra_state(self) -> list[dict[str, torch.Tensor]]:
        return [layer.state_dict() for layer in self.layers]

    def set_extra_state(self, state: list[dict[str, torch.Tensor]]) -> None:
        for layer, saved in zip(self.layers, state, strict=True):
            layer.load_state_dict(saved)


def _stack(*, registered: bool) -> Stack:
    torch.manual_seed(0)
    return Stack(registered=registered)


def healthy() -> Recipe:
    return _classifier(_stack(registered=True))


def broken() -> Recipe:
    return _classifier(_stack(registered=False))


def fixed() -> Recipe:
    model = _stack(registered=False)
    model.layers = nn.ModuleList(model.layers)
    return _classifier(model)


def near_miss() -> dict[str, Recipe]:
    frozen = _stack(registered=True)
    frozen.first.requires_grad_(False)
    torch.manual_seed(0)
    by_hand = SavedStack(registered=False)
    inside = [p for layer in by_hand.layers for p in layer.parameters()]
    return {
        "frozen on purpose": _classifier(frozen),
        "list whose layers the optimizer was given": _classifier(by_hand, parameters=[*by_hand.parameters(), *inside]),
        "warm-up from rate 0": _warm_up(),
    }


def _warm_up() -> Recipe:
    model = _stack(registered=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20))
    return Recipe(
        model=model, train_loader=_loader(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, scheduler=scheduler
    )
