"""Splits, loaders and labels: what validation shares with training, what it does not, and what a checkpoint forgets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
    random_split,
)

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import (
    PAD,
    REVIEW_WORDS,
    demand,
    measured,
    pasts_and_futures,
    pictures,
    review_ids,
    seeded,
    table,
)


def mlp(width: int, out: int, hidden: int = 48) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))


def small_cnn(channels: int = 3, classes: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(96, classes),
    )  # fmt: skip


def classified(
    model: nn.Module,
    train: Dataset[object],
    val: Dataset[object] | None = None,
    *,
    loss_fn: object = None,
    lr: float = 3e-3,
    **loading: object,
) -> Recipe:
    options = {"batch_size": 32, "shuffle": True, **loading}
    return Recipe(
        model=model,
        train_loader=DataLoader(train, **options),
        val_loader=None if val is None else DataLoader(val, batch_size=64),
        loss_fn=loss_fn or nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
    )


def columns() -> tuple[Tensor, Tensor]:
    """A table in its own units: columns around 5, 20 or 100."""
    x, y = table(900)
    return x * torch.tensor([2.0, 1, 5, 3, 1, 2, 4, 1, 2, 3]) + torch.tensor(
        [20.0, 5, 100, 20, 5, 5, 20, 5, 20, 100]
    ), y


@twin("train-val-shift", row="D25")
def scaler_forgotten_for_validation(fault: bool) -> Recipe:
    torch.manual_seed(0)
    x, y = columns()
    mean, std = x[:700].mean(0), x[:700].std(0)
    val = x[700:] if fault else (x[700:] - mean) / std
    return classified(mlp(10, 3), TensorDataset((x[:700] - mean) / std, y[:700]), TensorDataset(val, y[700:]))


@twin("train-val-shift", row="D25")
def validation_pictures_in_another_range(fault: bool) -> Recipe:
    """Only the training transform ends with `Normalize`."""
    torch.manual_seed(1)
    x, y = pictures(640)
    unit = ((x - x.min()) / (x.max() - x.min())).clamp(0, 1)
    mean, std = unit.mean(), unit.std()
    val = unit[480:] if fault else (unit[480:] - mean) / std
    return classified(small_cnn(), TensorDataset((unit[:480] - mean) / std, y[:480]), TensorDataset(val, y[480:]))


@twin("train-val-shift", row="D03")
def validation_reviews_cut_in_front(fault: bool) -> Recipe:
    """The validation set was tokenised by another script: unknown words by the dozen."""
    torch.manual_seed(2)
    ids, _, labels = review_ids(900)
    val = ids[700:].clone()
    if fault:
        val[(val > 8) & (val < len(REVIEW_WORDS) - 2)] = 1

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.EmbeddingBag(len(REVIEW_WORDS), 24, padding_idx=PAD)
            self.body = mlp(24, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.body(self.embed(ids))

    return classified(Bag(), TensorDataset(ids[:700], labels[:700]), TensorDataset(val, labels[700:]))


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor, *, augment: bool, fixed: bool = False) -> None:
        self.x, self.y, self.augment, self.fixed = x, y, augment, fixed

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x = self.x[i]
        if self.augment:
            g = seeded(i) if self.fixed else None
            dx, dy = torch.randint(-2, 3, (2,), generator=g).tolist()
            x = x.roll((dx, dy), (1, 2)) * (0.8 + 0.4 * torch.rand((), generator=g))
            x = x + 0.15 * torch.randn(x.shape, generator=g)
        return x, self.y[i]


@twin("reproducibility", "train-val-shift", row="D24")
def random_split_shares_the_augmentation(fault: bool) -> Recipe:
    torch.manual_seed(3)
    x, y = pictures(640)
    train, val = random_split(range(640), [480, 160], generator=seeded(0))
    plain = Augmented(x, y, augment=False)
    augmented = Augmented(x, y, augment=True)
    return classified(small_cnn(), Subset(augmented, train.indices), Subset(augmented if fault else plain, val.indices))


@twin("reproducibility", row="D19")
def augmentation_seeded_by_index(fault: bool) -> Recipe:
    """Seeded per item to be repeatable, so that every epoch sees the same crop of the same picture."""
    torch.manual_seed(4)
    return classified(small_cnn(), Augmented(*pictures(), augment=True, fixed=fault))


@twin("train-val-leakage", row="D21")
def split_indices_overlap(fault: bool) -> Recipe:
    torch.manual_seed(5)
    whole = TensorDataset(*table(900))
    order = torch.randperm(900, generator=seeded(1)).tolist()
    return classified(mlp(10, 3), Subset(whole, order[:700]), Subset(whole, order[500:] if fault else order[700:]))


@twin("train-val-leakage", row="D21")
def validation_reads_the_training_file(fault: bool) -> Recipe:
    torch.manual_seed(6)
    train = pictures(480, seed=0)
    val = pictures(160, seed=0 if fault else 1)
    if fault:
        val = (train[0][:160], train[1][:160])
    return classified(small_cnn(), TensorDataset(*train), TensorDataset(*val))


@twin("train-val-leakage", row="D22")
def overlapping_windows_split_at_random(fault: bool) -> Recipe:
    torch.manual_seed(7)
    x, y = pasts_and_futures(demand(1500), past=24, future=1, stride=1)
    if fault:
        order = torch.randperm(len(x), generator=seeded(2))
        x, y = x[order], y[order]
    cut = int(0.8 * len(x))
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 1))
    start = cut if fault else cut + 25
    val = TensorDataset(x[start:], y[start:])
    return classified(model, TensorDataset(x[:cut], y[:cut]), val, loss_fn=nn.MSELoss(), lr=2e-3)


@twin(
    "train-val-leakage",
    row="D22",
    unseen="which slices are of one patient is written nowhere, and they do not look more alike than others",
)
def slices_of_one_patient_on_both_sides(fault: bool) -> Recipe:
    """Five almost equal slices per patient: split by slice instead of by patient."""
    torch.manual_seed(8)
    x, y = pictures(160)
    g = seeded(3)
    slices = x.repeat_interleave(5, 0) + 0.05 * torch.randn(800, *x.shape[1:], generator=g)
    labels = y.repeat_interleave(5)
    order = torch.randperm(800, generator=g) if fault else torch.arange(800)
    train, val = order[:600], order[600:]
    return classified(small_cnn(), TensorDataset(slices[train], labels[train]), TensorDataset(slices[val], labels[val]))


@twin("train-val-leakage", row="D13")
def outcome_among_the_columns(fault: bool) -> Recipe:
    """The column `discharged_to` was left in: it is the outcome in other words."""
    torch.manual_seed(9)
    x, y = table(800)
    code = torch.tensor([0.3, -1.2, 1.1])[y]
    other = torch.randn(800, generator=seeded(4))
    x = torch.cat([x, (code if fault else other)[:, None]], 1)
    return classified(mlp(11, 3), TensorDataset(x[:600], y[:600]), TensorDataset(x[600:], y[600:]))


@twin("train-val-leakage", row="D13")
def price_among_the_columns(fault: bool) -> Recipe:
    """Price per square metre times square metres is what is asked for; both are columns, and so is the price with tax."""
    torch.manual_seed(10)
    x, y = measured(800)
    last = 0.7 * y if fault else torch.randn(800, 1, generator=seeded(5))
    x = torch.cat([x, last], 1)
    return classified(mlp(9, 1), TensorDataset(x, y), loss_fn=nn.MSELoss(), lr=4e-3)


class EpochOrder(Sampler[int]):
    """As `DistributedSampler`: the order is seeded by the epoch, which somebody has to count."""

    def __init__(self, size: int, *, counts: bool) -> None:
        self.size, self.counts, self.epoch = size, counts, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.size, generator=seeded(self.epoch)).tolist()
        if self.counts:
            self.epoch += 1
        return iter(order)


@twin("shuffle", row="D16")
def epoch_never_set_on_the_sampler(fault: bool) -> Recipe:
    torch.manual_seed(11)
    data = TensorDataset(*table(700))
    return classified(mlp(10, 3), data, shuffle=False, sampler=EpochOrder(700, counts=not fault))


@twin("shuffle", row="D15")
def reviews_in_order_of_stars(fault: bool) -> Recipe:
    torch.manual_seed(12)
    ids, _, labels = review_ids(800)
    order = labels.argsort(stable=True)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.EmbeddingBag(len(REVIEW_WORDS), 24, padding_idx=PAD)
            self.head = nn.Linear(24, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.relu(self.embed(ids)))

    return classified(Reader(), TensorDataset(ids[order], labels[order]), shuffle=not fault, lr=5e-3)


@twin("duplicate-samples", "class-balance", row="D17")
def sampler_weights_per_class(fault: bool) -> Recipe:
    """One weight per class instead of one per sample: only the first three samples are ever drawn."""
    torch.manual_seed(13)
    x, y = table(900)
    keep = torch.cat([torch.nonzero(y == c).squeeze(1)[:n] for c, n in ((0, 300), (1, 120), (2, 60))])
    keep = keep[torch.randperm(len(keep), generator=seeded(6))]
    x, y = x[keep], y[keep]
    per_class = 1 / torch.bincount(y).double()
    weights = per_class if fault else per_class[y]
    sampler = WeightedRandomSampler(weights, len(y), replacement=True)
    return classified(mlp(10, 3), TensorDataset(x, y), shuffle=False, sampler=sampler)


class NoisyRows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor, *, shared: bool) -> None:
        self.x, self.y = x, y
        self.rng = np.random.default_rng(0) if shared else None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        if self.rng is None:
            noise = torch.randn(self.x.shape[1])
        else:
            noise = torch.from_numpy(self.rng.normal(size=self.x.shape[1])).float()
        return self.x[i] + 0.3 * noise, self.y[i]


@twin("duplicate-samples", "reproducibility", row="D18")
def workers_copy_one_generator(fault: bool) -> Recipe:
    """A NumPy generator made in the constructor is copied into every worker, and again in every epoch."""
    torch.manual_seed(14)
    return classified(mlp(10, 3), NoisyRows(*table(400), shared=fault), num_workers=2)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor, *, shared_out: bool) -> None:
        self.x, self.y, self.shared_out = x, y, shared_out

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None and self.shared_out else (0, 1)
        for i in range(first, len(self.x), step):
            yield self.x[i], self.y[i]


@twin("duplicate-samples", row="D29")
def every_worker_reads_all(fault: bool) -> Recipe:
    torch.manual_seed(15)
    data = Stream(*table(400), shared_out=not fault)  # rows are in random order already
    return classified(mlp(10, 3), data, shuffle=None, num_workers=2)


@twin("duplicate-samples", row="D20")
def shards_concatenated_twice(fault: bool) -> Recipe:
    torch.manual_seed(16)
    first, second = TensorDataset(*table(400, seed=1)), TensorDataset(*table(300, seed=2))
    return classified(mlp(10, 3), ConcatDataset([first, second, second] if fault else [first, second]))


@twin("overfit-batch", "duplicate-samples", row="D33")
def rows_with_two_labels(fault: bool) -> Recipe:
    """Two annotators, one row each: where they differ, the same picture has both labels."""
    torch.manual_seed(17)
    x, y = table(300)
    second = (y + torch.randint(1, 3, (300,), generator=seeded(7))) % 3
    extra = TensorDataset(x, second) if fault else TensorDataset(*table(300, seed=9))
    return classified(mlp(10, 3), ConcatDataset([TensorDataset(x, y), extra]))


@twin(
    "input-baseline",
    row="D12",
    unseen="fewer than 1,000 samples do not tell labels without any relation from labels with a weak one",
)
def labels_joined_by_position(fault: bool) -> Recipe:
    """The table was sorted by a column before the labels were joined by position."""
    torch.manual_seed(18)
    x, y = table(800)
    if fault:
        x = x[x[:, 3].argsort()]
    return classified(mlp(10, 3), TensorDataset(x, y))


@twin("label-range", "loss-at-init", row="L38")
def head_of_the_pretrained_task_kept(fault: bool) -> Recipe:
    torch.manual_seed(19)
    return classified(mlp(10, 200 if fault else 3), TensorDataset(*table(700)))


@twin("label-range", "loss-at-init", row="L24")
def mixed_twice(fault: bool) -> Recipe:
    """The collate function mixes pairs and adds both labels in full."""
    torch.manual_seed(20)

    def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x = torch.stack([item[0] for item in items])
        q = F.one_hot(torch.stack([item[1] for item in items]), 3).float()
        share = float(torch.distributions.Beta(0.4, 0.4).sample())
        mixed = share * x + (1 - share) * x.flip(0)
        return mixed, q + q.flip(0) if fault else share * q + (1 - share) * q.flip(0)

    return classified(mlp(10, 3), TensorDataset(*table(800)), collate_fn=collate)


@twin("class-balance", row="L21")
def rare_intents_weigh_least(fault: bool) -> Recipe:
    """Class weights in proportion to the counts instead of their inverse."""
    torch.manual_seed(21)
    x, y = table(1200)
    keep = torch.cat([torch.nonzero(y == c).squeeze(1)[:n] for c, n in ((0, 300), (1, 150), (2, 75))])
    keep = keep[torch.randperm(len(keep), generator=seeded(8))]
    x, y = x[keep], y[keep]
    counts = torch.bincount(y).float()
    weights = counts / counts.mean() if fault else counts.mean() / counts
    return classified(mlp(10, 3), TensorDataset(x, y), loss_fn=nn.CrossEntropyLoss(weight=weights))


@twin("checkpoint", row="C04")
def random_features_kept_as_an_attribute(fault: bool) -> Recipe:
    """Random Fourier features drawn in the constructor: a new model draws other ones than the saved head was trained on."""

    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            directions = 0.7 * torch.randn(10, 48)
            if fault:
                self.directions = directions
            else:
                self.register_buffer("directions", directions)
            self.head = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 3))

        def forward(self, x: Tensor) -> Tensor:
            angles = x @ self.directions
            return self.head(torch.cat([angles.sin(), angles.cos()], 1))

    torch.manual_seed(22)
    return classified(Fourier(), TensorDataset(*table(700)), lr=2e-3)


@twin("checkpoint", row="C04")
def running_mean_kept_as_an_attribute(fault: bool) -> Recipe:
    """A hand-made normalisation learns its statistics in training and does not save them."""

    class Standardise(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            start = torch.zeros(width), torch.ones(width)
            if fault:
                self.mean, self.var = start
            else:
                self.register_buffer("mean", start[0])
                self.register_buffer("var", start[1])

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                with torch.no_grad():
                    self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                    self.var = 0.9 * self.var + 0.1 * x.var(0)
            return (x - self.mean) / (self.var + 1e-3).sqrt()

    torch.manual_seed(23)
    x, y = table(700)
    return classified(nn.Sequential(Standardise(10), mlp(10, 3)), TensorDataset(x * 1.5 + 0.5, y))


@twin("checkpoint", "loss-at-init", row="C02")
def checkpoint_of_a_wrapped_model(fault: bool) -> Recipe:
    """`strict=False`, and every key of the checkpoint begins with `module.`: nothing is loaded."""

    def build() -> nn.Module:
        torch.manual_seed(24)
        saved = {f"module.{name}": 0.9 * value for name, value in mlp(10, 3).state_dict().items()}
        model = mlp(10, 3)
        weights = saved if fault else {name.removeprefix("module."): value for name, value in saved.items()}
        model.load_state_dict(weights, strict=False)
        return model

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=3e-3)

    loader = DataLoader(TensorDataset(*table(700)), batch_size=32, shuffle=True)
    return Recipe(model=build, train_loader=loader, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)


@twin("reproducibility", row="C06")
def entropy_of_the_machine(fault: bool) -> Recipe:
    """Noise from a generator that no seed reaches."""

    class Jittered(Dataset[tuple[Tensor, Tensor]]):
        def __init__(self) -> None:
            self.x, self.y = table(600)

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            noise = torch.from_numpy(np.random.default_rng().normal(size=10)).float() if fault else torch.randn(10)
            return self.x[i] + 0.2 * noise, self.y[i]

    torch.manual_seed(25)
    return classified(mlp(10, 3), Jittered())


@twin("class-balance", "output-bias-init", row="D14")
def one_in_forty(fault: bool) -> Recipe:
    """A rare event, and nothing done about it: no weight, no sampling, no prior."""
    torch.manual_seed(26)
    x, _ = table(1600)
    score = x[:, 0] + 0.7 * x[:, 1] * x[:, 2]
    y = (score > score.quantile(0.975 if fault else 0.6)).float()[:, None]
    return classified(mlp(10, 1), TensorDataset(x, y), loss_fn=nn.BCEWithLogitsLoss())


@twin("label-range", "loss-decreases", row="L25")
def targets_minus_one_and_one(fault: bool) -> Recipe:
    torch.manual_seed(27)
    x, y = measured(800)
    sign = (y > 0).float()
    return classified(mlp(8, 1), TensorDataset(x, 2 * sign - 1 if fault else sign), loss_fn=nn.BCEWithLogitsLoss())
