"""Layers whose class sets the seed."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from nncheck.lab.sandbox import Sandbox
from nncheck.probes.seeded_layers import seeded_layers
from nncheck.target.assemble import assemble


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.fc(self.norm(x)))


class SeededBlock(Block):
    def __init__(self, seed: int = 42) -> None:
        torch.manual_seed(seed)
        super().__init__()


def _layers(*blocks: nn.Module) -> list[tuple[int, int, int]]:
    model = nn.Sequential(*blocks, nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(torch.randn(32, 8), torch.randn(32, 1)), batch_size=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    recipe = Recipe(model=model, train_loader=loader, loss_fn=nn.MSELoss(), optimizer=optimizer)
    found = seeded_layers(Sandbox(assemble(recipe), device=torch.device("cpu"))).found
    assert all("manual_seed" in str(row.place.source) for row in found)
    return [(len(row.names), row.matrices, row.size) for row in found]


def _tied() -> list[nn.Module]:
    one, other = SeededBlock(), SeededBlock()
    other.fc.weight = one.fc.weight
    return [one, other]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: [SeededBlock(), SeededBlock(), SeededBlock()], [(3, 1, 64)]),
        (lambda: [SeededBlock(), SeededBlock(), SeededBlock(7)], [(2, 1, 64)]),
        (lambda: [SeededBlock(i) for i in range(3)], []),
        (lambda: [SeededBlock()], []),
        (lambda: [Block(), Block()], []),
        (lambda: [copy.deepcopy(block) for block in [Block()] * 3], []),  # equal, and nothing sets a seed
        (_tied, []),
        (lambda: [SeededBlock(), SeededBlock().requires_grad_(False)], []),  # a target network, made like its own
    ],
)
def test_equal_layers_of_a_class_that_sets_the_seed(
    make: Callable[[], list[nn.Module]], found: list[tuple[int, int, int]]
) -> None:
    assert _layers(*make()) == found
