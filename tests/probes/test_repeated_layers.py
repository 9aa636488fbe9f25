"""One layer that is in a list several times."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.repeated_layers import repeated_layers
from nncheck.target.assemble import assemble


class _Net(nn.Module):
    """Layers of a list, one after the other with a residual, side by side, or the first of them again and again."""

    def __init__(self, layers: list[nn.Module], way: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.way = way
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "beside":
            return self.head(sum(layer(x) for layer in self.layers))
        for layer in self.layers:
            x = x + torch.tanh((self.layers[0] if self.way == "loop" else layer)(x))
        return self.head(x)


def _sandbox(model: nn.Module) -> Sandbox:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 8, generator=generator), torch.randn(64, 1, generator=generator)
    recipe = Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=16),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )
    return Sandbox(assemble(recipe), device=torch.device("cpu"))


def _again(count: int) -> list[nn.Module]:
    return [nn.Linear(8, 8)] * count


def _copies(count: int) -> list[nn.Module]:
    layer = nn.Linear(8, 8)
    return [copy.deepcopy(layer) for _ in range(count)]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: _Net(_again(3), "stack"), (3, 3, 2)),
        (lambda: _Net(_again(3), "beside"), (3, 3, 0)),
        (lambda: _Net(_copies(3), "stack"), None),
        (lambda: _Net(_copies(3), "loop"), None),
        (lambda: nn.Sequential(*_again(2), nn.ReLU(), nn.ReLU(), nn.Linear(8, 1)), (2, 2, 1)),
        (lambda: nn.Sequential(*[nn.ReLU()] * 3, nn.Linear(8, 1)), None),
        (lambda: nn.Sequential(nn.Sequential(*_again(2)).requires_grad_(False), nn.Linear(8, 1)), None),
    ],
)
def test_calls_that_go_on_from_each_other(make: Callable[[], nn.Module], found: tuple[int, int, int] | None) -> None:
    rows = repeated_layers(_sandbox(make())).found
    assert [(r.entries, r.calls, r.chained) for r in rows] == ([] if found is None else [found])
    for row in rows:
        assert row.users
        assert row.size == 72


def test_a_library_that_shares_its_layers_is_no_users_list() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.encoder.layers = nn.ModuleList([layer, layer])
            self.head = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x[:, None])[:, 0])

    (row,) = repeated_layers(_sandbox(Held())).found
    assert (row.entries, row.chained, row.users) == (2, 1, False)
