"""Several yes-or-no labels for every sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, tags


class Tagger(nn.Module):
    def __init__(self, labels: int = 6, *, last: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
        self.out = nn.Linear(32, labels)
        self.last = last or nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.last(self.out(self.body(features)))


def recipe(model: nn.Module, loader: DataLoader, loss, *, lr: float = 2e-3, **parts) -> Recipe:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return Recipe(model=model, train_loader=loader, loss_fn=loss, optimizer=optimizer, **parts)


@twin("double-softmax", "loss-at-init", "overfit-batch", row="L03")
def sigmoid_before_a_loss_on_logits(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(Tagger(last=nn.Sigmoid() if fault else None), batches(*tags()), nn.BCEWithLogitsLoss())


@twin("double-softmax", "loss-at-init", "overfit-batch", row="L03")
def functional_sigmoid_in_the_training_step(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Tagger()

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        x, y = batch
        out = model(x)
        return F.binary_cross_entropy_with_logits(torch.sigmoid(out) if fault else out, y)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Recipe(model=model, train_loader=batches(*tags(seed=1)), training_step=training_step, optimizer=optimizer)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)


@twin("gradient-flow", "saturation", "output-range", row="L04")
def scores_clamped_to_please_bce(fault: bool) -> Recipe:
    torch.manual_seed(0)
    last = Clamp() if fault else nn.Sigmoid()
    return recipe(Tagger(last=last), batches(*tags(seed=2)), nn.BCELoss())


@twin("label-range", "loss-at-init", row="L37")
def several_labels_with_cross_entropy(fault: bool) -> Recipe:
    torch.manual_seed(0)
    loss = nn.CrossEntropyLoss() if fault else nn.BCEWithLogitsLoss()
    return recipe(Tagger(), batches(*tags(seed=3)), loss)


@twin("class-balance", "loss-at-init", row="L22")
def pos_weight_of_the_negatives_share(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = tags(1200, rate=-1.6, seed=4)
    positive = y.mean(0)
    weight = positive / (1 - positive) if fault else (1 - positive) / positive
    return recipe(Tagger(), batches(x, y), nn.BCEWithLogitsLoss(pos_weight=weight))


@twin("label-range", "loss-decreases", "loss-at-init", row="L25")
def labels_of_zero_and_two(fault: bool) -> Recipe:
    """Two annotators' files were added instead of compared."""
    torch.manual_seed(0)
    x, y = tags(seed=5)
    return recipe(Tagger(), batches(x, y + y if fault else y), nn.BCEWithLogitsLoss())


@twin("class-balance", "output-bias-init", row="D14")
def rare_labels_left_alone(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = tags(1500, rate=-2.6 if fault else 0.0, seed=6)
    return recipe(Tagger(), batches(x, y), nn.BCEWithLogitsLoss())


@twin("output-bias-init", "loss-at-init", row="I10")
def biases_with_the_sign_of_the_negatives(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = tags(1200, rate=-1.8, seed=7)
    model = Tagger()
    with torch.no_grad():
        prior = torch.logit(y.mean(0).clamp(0.01, 0.99))
        model.out.bias.copy_(-prior if fault else prior)
    return recipe(model, batches(x, y), nn.BCEWithLogitsLoss())


class PerLabel(nn.Module):
    """A head for every label."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 48), nn.ReLU())
        heads = [nn.Linear(48, 1) for _ in range(6)]
        self.heads = nn.ModuleList(heads) if registered else heads

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat([head(h) for head in self.heads], dim=1)


@twin("optimizer-coverage", "unused-parameters", "checkpoint", row="G01")
def heads_kept_in_a_python_list(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return recipe(PerLabel(not fault), batches(*tags(seed=8)), nn.MultiLabelSoftMarginLoss())


@twin("loss-at-init", "learning-rate", row="L17")
def summed_over_labels_and_samples(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = nn.BCEWithLogitsLoss(reduction="sum" if fault else "mean")
    return Recipe(model=model, train_loader=batches(*tags(seed=9)), loss_fn=loss, optimizer=optimizer)


@twin("gradient-flow", "unused-parameters", row="G10")
def loss_wrapped_in_a_new_tensor(fault: bool) -> Recipe:
    """An error about a missing grad_fn was silenced."""
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = F.binary_cross_entropy_with_logits(output, target)
        return torch.tensor(value.item(), requires_grad=True) if fault else value

    return recipe(Tagger(), batches(*tags(seed=10)), loss)


@twin("gradient-flow", "unused-parameters", "forward-pass", row="G11")
def loss_of_rounded_predictions(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        p = torch.sigmoid(output)
        p = torch.round(p) if fault else p
        overlap = (p * target).sum(1)
        return 1 - ((2 * overlap + 1) / (p.sum(1) + target.sum(1) + 1)).mean()

    return recipe(Tagger(), batches(*tags(seed=11)), loss)


class Comments(Dataset):
    """Bags of words and their tags as a dict, as in a competition."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(12)
        topics = torch.rand(4, 60, generator=g) ** 6
        self.tags = (torch.rand(900, 4, generator=g) < 0.4).float()
        rate = self.tags @ topics * 3 + 0.15
        self.words = torch.log1p(torch.poisson(rate, generator=g))

    def __len__(self) -> int:
        return len(self.tags)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"words": self.words[index], "tags": self.tags[index]}


@sound("L37")
def tags_of_comments_as_dicts() -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(batch["words"]), batch["tags"])

    loader = DataLoader(Comments(), batch_size=45, shuffle=True)
    return Recipe(
        model=model,
        train_loader=loader,
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@sound("L25")
def labels_smoothed_for_bce() -> Recipe:
    torch.manual_seed(0)
    x, y = tags(seed=13)
    return recipe(Tagger(), batches(x, y * 0.9 + 0.05), nn.BCEWithLogitsLoss())


@sound("D14")
def rare_labels_with_their_priors() -> Recipe:
    torch.manual_seed(0)
    x, y = tags(1500, rate=-1.6, seed=14)
    model = Tagger()
    with torch.no_grad():
        model.out.bias.copy_(torch.logit(y.mean(0).clamp(0.005, 0.995)))
    return recipe(model, batches(x, y), nn.BCEWithLogitsLoss())


@sound("L03")
def probabilities_with_their_own_loss() -> Recipe:
    torch.manual_seed(0)
    return recipe(Tagger(last=nn.Sigmoid()), batches(*tags(seed=15)), nn.BCELoss())
