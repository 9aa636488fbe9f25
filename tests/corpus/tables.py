"""Classifiers of tables: scikit-learn's sets, own Datasets, weights of classes, hand-made layers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import sound, twin
from tests.corpus._sets import batches, standard, table


def net(inputs: int, classes: int, hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


def adam(model: nn.Module, loader: DataLoader, loss, *, lr: float = 2e-3, **parts) -> Recipe:
    return Recipe(
        model=model,
        train_loader=loader,
        loss_fn=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
        **parts,
    )


def clusters(
    count: int = 900, *, shares: tuple[float, ...] = (0.34, 0.33, 0.33), seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Ten features of customers in overlapping groups of the given shares."""
    g = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=g)
    centres = torch.randn(len(shares), 10, generator=g) * 1.1
    return standard(centres[y] + torch.randn(count, 10, generator=g)), y


class Frame(Dataset):
    """Rows of a table as a dict of columns, as people come with from pandas."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"features": self.x[index], "label": self.y[index]}


@twin("class-balance", row="L21")
def weights_follow_the_counts(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(shares=(0.7, 0.2, 0.1))
    counts = torch.bincount(y).float()
    weight = counts / counts.sum() if fault else counts.sum() / (3 * counts)
    return adam(net(10, 3), batches(x, y, 32), nn.CrossEntropyLoss(weight=weight))


@twin("class-balance", row="L21")
def weights_in_the_order_of_the_report(fault: bool) -> Recipe:
    """The weights were printed sorted, and copied."""
    torch.manual_seed(0)
    x, y = clusters(shares=(0.12, 0.23, 0.65), seed=3)
    weight = [0.5, 1.45, 2.8]
    return adam(
        net(10, 3), batches(x, y, 32), nn.CrossEntropyLoss(weight=torch.tensor(weight if fault else weight[::-1]))
    )


def rare(count: int = 1200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ten percent positives."""
    return clusters(count, shares=(0.9, 0.1), seed=seed)


@twin("class-balance", "loss-at-init", "output-bias-init", row="L22")
def pos_weight_upside_down(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = rare()
    positives = float(y.sum())
    negatives = len(y) - positives
    weight = torch.tensor(positives / negatives if fault else negatives / positives)
    model = nn.Sequential(*net(10, 1), nn.Flatten(0))
    return adam(model, batches(x, y.float(), 64), nn.BCEWithLogitsLoss(pos_weight=weight))


@twin("class-balance", "output-bias-init", "prediction-dynamics", row="D14")
def one_in_forty_left_alone(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(1600, shares=(0.95, 0.025, 0.025), seed=2) if fault else clusters(1600, seed=2)
    return adam(net(10, 3), batches(x, y), nn.CrossEntropyLoss())


@twin("class-balance", "label-range", row="D11")
def a_join_gave_everyone_the_same_label(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters()
    return adam(net(10, 3), batches(x, torch.full_like(y, 2) if fault else y), nn.CrossEntropyLoss())


@twin("label-range", "class-balance", row="D11")
def one_hot_of_unknown_names_is_empty(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("wine")
    names = np.array(["barolo", "grignolino", "barbera"])[y.numpy()]
    known = ["Barolo", "grignolino", "barbera"] if fault else ["barolo", "grignolino", "barbera"]
    q = torch.tensor((names[:, None] == np.array(known)[None]).astype(np.float32))
    return adam(net(13, 3), batches(x, q, 32), nn.CrossEntropyLoss())


class Swapped(nn.Module):
    """Cross-entropy on one-hot labels; which argument comes first is easily forgotten."""

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.swapped = swapped

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        q = F.one_hot(target, 3).float()
        return F.cross_entropy(q, output.softmax(1)) if self.swapped else F.cross_entropy(output, q)


@twin("forward-pass", "gradient-flow", "output-range", "loss-at-init", row="L23")
def target_and_prediction_swapped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return adam(net(13, 3), batches(*table("wine"), 32), Swapped(fault))


@twin("label-range", "loss-at-init", row="L24")
def soft_labels_that_sum_to_two(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters()
    q = F.one_hot(y, 3).float() * 0.9 + 0.1 / 3
    return adam(net(10, 3), batches(x, q * 2 if fault else q), nn.CrossEntropyLoss())


@twin("label-range", "loss-decreases", row="L25")
def labels_minus_one_and_one_for_bce(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("breast_cancer")
    y = y.float() * 2 - 1 if fault else y.float()
    return adam(net(30, 1), batches(x, y[:, None]), nn.BCEWithLogitsLoss())


@twin("loss-at-init", "gradient-flow", "label-range", "overfit-batch", row="L26")
def one_output_for_two_classes(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("breast_cancer")
    model = net(30, 1 if fault else 2)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        target = target if output.shape[1] > 1 else torch.zeros_like(target)  # argmax of a one-hot with one column
        return F.cross_entropy(output, target)

    return adam(model, batches(x, y), loss)


@twin("loss-at-init", "loss-decreases", row="L28")
def kl_divided_by_the_classes_too(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(shares=(0.2,) * 5, seed=4)
    q = F.one_hot(y, 5).float() * 0.9 + 0.02
    kl = nn.KLDivLoss(reduction="mean" if fault else "batchmean")
    return adam(nn.Sequential(net(10, 5), nn.LogSoftmax(dim=-1)), batches(x, q), kl)


@twin("loss-at-init", "learning-rate", "loss-decreases", row="L27")
def kl_of_probabilities(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(shares=(0.25,) * 4, seed=5)
    q = F.one_hot(y, 4).float() * 0.8 + 0.05
    last = nn.Softmax(dim=-1) if fault else nn.LogSoftmax(dim=-1)
    return adam(nn.Sequential(net(10, 4), last), batches(x, q), nn.KLDivLoss(reduction="batchmean"))


@twin("loss-decreases", "overfit-batch", "output-range", "loss-at-init", row="L29")
def log_likelihood_minimised(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        likelihood = F.log_softmax(output, 1).gather(1, target[:, None]).mean()
        return likelihood if fault else -likelihood

    return adam(net(13, 3), batches(*table("wine"), 32), loss)


class Focal(nn.Module):
    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        p = torch.exp(-ce)
        weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        return (weight * (1 - p) ** self.gamma * ce).mean()


@twin("loss-at-init", "class-balance", "loss-decreases", row="L33")
def focal_alpha_and_gamma_swapped(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = rare(seed=6)
    model = nn.Sequential(*net(10, 1), nn.Flatten(0))
    nn.init.constant_(model[-2].bias, float(torch.logit(y.float().mean())))
    return adam(model, batches(x, y.float()), Focal(2.0, 0.75) if fault else Focal(0.75, 2.0))


@twin("finite-values", row="N04")
def log_of_a_softmax(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        log_p = torch.log(output.softmax(1)) if fault else output.log_softmax(1)
        return -log_p.gather(1, target[:, None]).mean()

    return adam(net(13, 3), batches(*table("wine"), 32), loss)


@twin("finite-values", row="D06")
def a_missing_value_in_the_table(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("breast_cancer")
    if fault:
        x[[33, 410], 7] = float("nan")
    return adam(net(30, 2), batches(x, y), nn.CrossEntropyLoss())


@twin("data-scale", row="D07")
def columns_in_their_own_units(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("wine", scaled=not fault)
    return adam(net(13, 3), batches(x, y, 32), nn.CrossEntropyLoss())


@twin("data-scale", "dead-relu", row="I13")
def far_from_zero_compared_to_the_spread(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(seed=7)
    return adam(net(10, 3), batches(x + 100 if fault else x, y), nn.CrossEntropyLoss())


@twin("train-val-leakage", "simple-baseline", row="D13")
def outcome_among_the_features(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(1200, shares=(0.5, 0.5), seed=8)
    extra = y.float() if fault else torch.randn(1200, generator=torch.Generator().manual_seed(1))
    x = standard(torch.cat([x, extra[:, None]], 1))
    return adam(
        net(11, 2),
        batches(x[:900], y[:900]),
        nn.CrossEntropyLoss(),
        val_loader=batches(x[900:], y[900:], 100, shuffle=False),
    )


@twin("duplicate-samples", row="D20")
def oversampled_by_copies_before_saving(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(600, seed=9)
    if fault:
        x, y = x.repeat(3, 1), y.repeat(3)
    return adam(net(10, 3), batches(x, y), nn.CrossEntropyLoss())


@twin("symmetry", "gradient-flow", "overfit-batch", row="I01")
def all_weights_start_equal(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(13, 3)
    for layer in model:
        if isinstance(layer, nn.Linear):
            (nn.init.constant_ if fault else lambda w, _: nn.init.xavier_uniform_(w))(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)
    return adam(model, batches(*table("wine"), 32), nn.CrossEntropyLoss())


@twin("loss-at-init", "activation-scale", row="I02")
def weights_drawn_with_spread_one(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(30, 2, hidden=64)

    def init(layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 1.0 if fault else (2 / layer.in_features) ** 0.5 / 1.4)

    model.apply(init)
    return adam(model, batches(*table("breast_cancer")), nn.CrossEntropyLoss())


@twin("activation-scale", "input-dependency", "gradient-flow", "symmetry", row="I03")
def weights_drawn_much_too_small(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(10, 3)
    for name, p in model.named_parameters():
        if name.endswith("weight"):
            nn.init.normal_(p, std=1e-4 if fault else 0.2)
    return adam(model, batches(*clusters()), nn.CrossEntropyLoss(), lr=1e-3)


@twin("dead-relu", row="I12")
def biases_far_below_zero(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = net(10, 3)
    for layer in model[:3]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -4.0 if fault else 0.0)
    return adam(model, batches(*clusters()), nn.CrossEntropyLoss())


@twin("saturation", "gradient-flow", "activation-scale", row="I14")
def six_sigmoid_layers(fault: bool) -> Recipe:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(30, 32)]
    for _ in range(6):
        layers += [nn.Sigmoid() if fault else nn.ReLU(), nn.Linear(32, 32)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    layers += [nn.LayerNorm(32), nn.Linear(32, 2)] if not fault else [nn.Linear(32, 2)]
    return adam(nn.Sequential(*layers), batches(*table("breast_cancer")), nn.CrossEntropyLoss())


@twin("saturation", row="I14")
def tanh_after_a_wide_start(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=3.0 if fault else layer.in_features**-0.5)
    return adam(model, batches(*table("wine"), 32), nn.CrossEntropyLoss(), lr=1e-3)


@twin("activation-scale", row="I15")
def no_activation_between_layers(fault: bool) -> Recipe:
    torch.manual_seed(0)

    def hidden(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, 32)] if fault else [nn.Linear(inputs, 32), nn.ReLU()]

    model = nn.Sequential(*hidden(10), *hidden(32), *hidden(32), nn.Linear(32, 3))
    return adam(model, batches(*clusters()), nn.CrossEntropyLoss())


@twin("saturation", "activation-scale", row="I16")
def softmax_between_the_layers(fault: bool) -> Recipe:
    torch.manual_seed(0)
    act = (lambda: nn.Softmax(dim=1)) if fault else nn.ReLU
    model = nn.Sequential(nn.Linear(10, 64), act(), nn.Linear(64, 64), act(), nn.Linear(64, 3))
    return adam(model, batches(*clusters()), nn.CrossEntropyLoss())


class Block(nn.Module):
    def __init__(self, width: int, seed: int | None) -> None:
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


@twin("symmetry", row="I17")
def seed_set_inside_the_block(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 24), *[Block(24, 42 if fault else None) for _ in range(3)], nn.Linear(24, 3))
    return adam(model, batches(*clusters()), nn.CrossEntropyLoss(), lr=1e-3)


@twin("output-bias-init", "loss-at-init", row="I10")
def prior_written_for_the_other_class(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = rare(seed=10)
    model = nn.Sequential(*net(10, 1), nn.Flatten(0))
    share = float(y.float().mean())
    prior = np.log((1 - share) / share) if fault else np.log(share / (1 - share))
    nn.init.constant_(model[-2].bias, float(prior))
    return adam(model, batches(x, y.float()), nn.BCEWithLogitsLoss())


class FirstRow(nn.Module):
    """Adds a summary of the request, which a slice takes from the first row."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.embed = nn.Linear(10, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x))
        if self.first:
            h = h[:1].expand(len(x), -1)
        return self.head(h)


@twin("input-dependency", "batch-mixing", "batch-consistency", row="S14")
def every_row_from_the_first(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return adam(FirstRow(fault), batches(*clusters()), nn.CrossEntropyLoss())


class Squeezed(nn.Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim
        self.net = net(30, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        return out.squeeze() if self.dim is None else out.squeeze(self.dim)


@twin("forward-pass", "batch-consistency", "loss-broadcast", row="S07")
def squeeze_drops_a_batch_of_one(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = table("breast_cancer")
    loader = batches(x[:513], y[:513].float(), 64)  # the last batch of an epoch has one row
    return adam(Squeezed(None if fault else -1), loader, nn.BCEWithLogitsLoss())


@twin("forward-pass", row="D27")
def drop_last_drops_everything(fault: bool) -> Recipe:
    torch.manual_seed(0)
    data = TensorDataset(*table("wine"))
    loader = DataLoader(data, batch_size=256 if fault else 32, shuffle=True, drop_last=True)
    return adam(net(13, 3), loader, nn.CrossEntropyLoss())


@twin(
    "loss-broadcast",
    "overfit-batch",
    row="L12",
    unseen="one Linear makes all sixteen scores: which of the two dimensions it lays the answers along is its to learn, and "
    "both are learned equally well; only the code that reads predictions later says which was meant",
)
def classes_and_positions_in_each_others_place(fault: bool) -> Recipe:
    """Four questions with four answers each: nothing raises."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(11)
    x = torch.randn(700, 12, generator=g)
    y = (x @ torch.randn(12, 16, generator=g)).view(700, 4, 4).argmax(2)
    model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 16), nn.Unflatten(1, (4, 4)))

    def loss(output: Tensor, target: Tensor) -> Tensor:  # output: (batch, question, answer)
        return F.cross_entropy(output if fault else output.transpose(1, 2), target)

    return adam(model, batches(x, y), loss)


@twin("label-range", "loss-at-init", "output-range", row="L37")
def exclusive_classes_with_bce(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(shares=(0.1,) * 10, count=1000, seed=12)
    if fault:
        return adam(net(10, 10), batches(x, F.one_hot(y, 10).float()), nn.BCEWithLogitsLoss())
    return adam(net(10, 10), batches(x, y), nn.CrossEntropyLoss())


@sound("D14")
def imbalance_with_the_prior_in_the_bias() -> Recipe:
    torch.manual_seed(0)
    x, y = rare(seed=13)
    model = nn.Sequential(*net(10, 1), nn.Flatten(0))
    nn.init.constant_(model[-2].bias, float(torch.logit(y.float().mean())))
    return adam(model, batches(x, y.float()), nn.BCEWithLogitsLoss())


@sound("L21")
def weights_by_effective_number() -> Recipe:
    torch.manual_seed(0)
    x, y = clusters(1200, shares=(0.6, 0.25, 0.15), seed=14)
    counts = torch.bincount(y).double()
    weight = (1 - 0.99) / (1 - 0.99**counts)
    return adam(net(10, 3), batches(x, y), nn.CrossEntropyLoss(weight=(weight / weight.mean()).float()))


@sound("L33")
def focal_loss_as_published() -> Recipe:
    torch.manual_seed(0)
    x, y = rare(seed=15)
    model = nn.Sequential(*net(10, 1), nn.Flatten(0))
    nn.init.constant_(model[-2].bias, float(torch.logit(y.float().mean())))
    return adam(model, batches(x, y.float()), Focal(0.75, 2.0))


@sound("I15")
def plain_logistic_regression() -> Recipe:
    x, y = table("breast_cancer")
    model = nn.Linear(30, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    return Recipe(model=model, train_loader=batches(x, y), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


@sound("D12")
def a_hundred_and_seventy_wines_as_dicts() -> Recipe:
    torch.manual_seed(0)
    x, y = table("wine")
    model = net(13, 3)

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["features"]), batch["label"])

    return Recipe(
        model=model,
        train_loader=DataLoader(Frame(x, y), batch_size=16, shuffle=True),
        training_step=training_step,
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01),
    )


@sound("D07")
def yes_or_no_columns_beside_scaled_ones() -> Recipe:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(16)
    x, y = clusters(1000, seed=16)
    flags = (torch.rand(1000, 4, generator=g) < torch.tensor([0.5, 0.3, 0.1, 0.05])).float()
    return adam(net(14, 3), batches(torch.cat([x, flags], 1), y), nn.CrossEntropyLoss())


class Entities(nn.Module):
    """Embeddings of categories beside numbers, as in competition code."""

    def __init__(self) -> None:
        super().__init__()
        self.shop, self.day = nn.Embedding(12, 6), nn.Embedding(7, 3)
        self.norm = nn.BatchNorm1d(4)
        self.net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        shop, day = categories.unbind(1)
        return self.net(torch.cat([self.norm(numbers), self.shop(shop), self.day(day)], 1))


@sound("E06")
def categories_and_numbers() -> Recipe:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(17)
    numbers = torch.randn(1000, 4, generator=g) * torch.tensor([1.0, 3.0, 0.5, 10.0])
    categories = torch.stack([torch.randint(12, (1000,), generator=g), torch.randint(7, (1000,), generator=g)], 1)
    effect = torch.randn(12, 3, generator=g)
    y = (effect[categories[:, 0]] + numbers[:, :1] * torch.tensor([1.0, 0.0, -1.0])).argmax(1)
    model = Entities()

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        a, b, target = batch
        return F.cross_entropy(model(a, b), target)

    loader = DataLoader(TensorDataset(numbers, categories, y), batch_size=50, shuffle=True)
    return Recipe(
        model=model,
        train_loader=loader,
        training_step=training_step,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@sound("I16")
def attention_over_features_ends_in_softmax() -> Recipe:
    """A gate that sums to one over the features is the design."""
    torch.manual_seed(0)

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(13, 13)
            self.net = net(13, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x * self.gate(x).softmax(1) * 13)

    return adam(Gated(), batches(*table("wine"), 32), nn.CrossEntropyLoss())
