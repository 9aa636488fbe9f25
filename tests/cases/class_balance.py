"""One rare class among three, weighted by the inverse of its frequency, or by the frequency itself."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from nncheck import Recipe


def data() -> tuple[Tensor, Tensor]:
    """1,000 samples of which a tenth is class 1 and a twentieth class 2."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 12, generator=generator)
    score = x @ torch.randn(12, generator=generator)
    order = score.argsort(descending=True)
    y = torch.zeros(1000, dtype=torch.long)
    y[order[:50]] = 2
    y[order[50:150]] = 1
    return x, y


def recipe(
    x: Tensor, y: Tensor, loss_fn: nn.Module, *, outputs: int = 3, sampler: WeightedRandomSampler | None = None
) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, outputs))
    loader = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=sampler is None, sampler=sampler)
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def healthy() -> Recipe:
    x, y = data()
    counts = torch.bincount(y).float()
    return recipe(x, y, nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts)))


def broken() -> Recipe:
    x, y = data()
    counts = torch.bincount(y).float()
    return recipe(x, y, nn.CrossEntropyLoss(weight=len(counts) * counts / counts.sum()))


def fixed() -> Recipe:
    return healthy()


def near_miss() -> dict[str, Recipe]:
    """Three to one and nothing done; a sampler with a weight for each sample; a pos_weight that balances; even classes weighted by
    what errors cost."""
    x, y = data()
    counts = torch.bincount(y).float()
    sampler = WeightedRandomSampler((1 / counts)[y], num_samples=1000, generator=torch.Generator().manual_seed(0))
    positive = (y > 0).float()[:, None]
    generator = torch.Generator().manual_seed(0)
    even = (x @ torch.randn(12, 3, generator=generator)).argmax(1)
    return {
        "three to one": recipe(x, ((x[:, 0] > 0) & (x[:, 1] > 0)).long(), nn.CrossEntropyLoss(), outputs=2),
        "a weight for each sample": recipe(x, y, nn.CrossEntropyLoss(), sampler=sampler),
        "pos_weight": recipe(
            x, positive, nn.BCEWithLogitsLoss(pos_weight=torch.tensor([(1 - 0.15) / 0.15])), outputs=1
        ),
        "what errors cost": recipe(x, even, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.5, 1.0]))),
    }
