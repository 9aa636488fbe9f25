"""Set-ups in which nothing is wrong: unusual losses, orders, starts and loops that are as they should be."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from nncheck import Recipe
from tests.corpus import sound
from tests.corpus._material import (
    demand,
    measured,
    motions,
    pasts_and_futures,
    review_ids,
    rings,
    seeded,
    strokes,
    table as drawn,
)
from tests.corpus._sets import batches, digits, pictures, standard, table, tags
from tests.corpus.fresh_misc import mlp
from tests.corpus.fresh_text import ALPHABET, LETTERS, NanoLM, next_token_loss


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=2e-3)


def written(count: int = 1200) -> tuple[Tensor, Tensor]:
    x, y = digits(count)
    return ((x - 0.305) / 0.376).flatten(1), y


@sound("L07")
def nll_after_log_softmax() -> Recipe:
    x, y = written()
    return Recipe(
        model=lambda: nn.Sequential(mlp(64, 48, 10), nn.LogSoftmax(dim=1)),
        train_loader=batches(x, y, 32),
        loss_fn=nn.NLLLoss(),
        optimizer=adam,
    )


class PackedBoth(nn.Module):
    """Reads padded reviews from both ends, packed by their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(40, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, ids: Tensor) -> Tensor:
        lengths = (ids != 0).sum(1).cpu()
        packed = pack_padded_sequence(self.emb(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (state, _) = self.lstm(packed)
        return self.fc(torch.cat([state[-2], state[-1]], 1))


@sound("T13")
def reviews_packed_and_read_both_ways() -> Recipe:
    ids, _, labels = review_ids(900, 14, seed=61)
    return Recipe(
        model=PackedBoth,
        train_loader=batches(ids, labels, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=4e-3),
    )


@sound("L19")
def only_the_second_half_is_answered() -> Recipe:
    rows = LETTERS.unfold(0, 33, 20)
    targets = rows[:, 1:].clone()
    targets[:, :10] = -100
    return Recipe(
        model=lambda: NanoLM(d=24),
        train_loader=batches(rows[:, :-1].clone(), targets, 32),
        loss_fn=next_token_loss,
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1, betas=(0.9, 0.95)),
    )


@sound("T18")
def noise_removed_with_a_look_ahead() -> Recipe:
    clean = demand(2000, 62)[:, 0].unfold(0, 32, 4).clone()
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=seeded(1))
    net = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 1, 1)
    )
    return Recipe(
        model=net,
        train_loader=batches(noisy[:, None], clean[:, None], 32),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(net.parameters(), lr=3e-3),
    )


@sound("S10")
def ranked_by_pairs_in_the_batch() -> Recipe:
    x, y = measured(900, 8, seed=63)

    def ranknet(score: Tensor, value: Tensor) -> Tensor:
        gap = score - score.T
        higher = (value > value.T).float()
        apart = ~torch.eye(len(score), dtype=torch.bool)
        return F.binary_cross_entropy_with_logits(gap[apart], higher[apart])

    return Recipe(model=lambda: mlp(8, 32, 1), train_loader=batches(x, y, 32), loss_fn=ranknet, optimizer=adam)


@sound("L35")
def supervised_contrast_of_digits() -> Recipe:
    x, y = written()

    def supcon(z: Tensor, label: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        me = torch.eye(len(z), dtype=torch.bool)
        log_p = (z @ z.T / 0.2).masked_fill(me, -1e9).log_softmax(1)
        same = (label[:, None] == label).masked_fill(me, False)
        return -((log_p * same).sum(1) / same.sum(1).clamp(min=1)).mean()

    return Recipe(model=lambda: mlp(64, 64, 16), train_loader=batches(x, y, 96), loss_fn=supcon, optimizer=adam)


@sound("I05")
def classifier_starts_at_zero() -> Recipe:
    x, y = written()

    def make() -> nn.Module:
        net = mlp(64, 64, 10)
        nn.init.zeros_(net[-1].weight)
        nn.init.zeros_(net[-1].bias)
        return net

    return Recipe(model=make, train_loader=batches(x, y, 32), loss_fn=nn.CrossEntropyLoss(), optimizer=adam)


@sound("D17")
def one_in_twelve_drawn_evenly() -> Recipe:
    g = seeded(64)
    x = torch.randn(1500, 8, generator=g)
    y = (x[:, 0] + x[:, 1] + 0.3 * torch.randn(1500, generator=g) > 2.0).long()
    weight = 1.0 / torch.bincount(y).float()
    sampler = WeightedRandomSampler(weight[y].tolist(), len(y), replacement=True)
    return Recipe(
        model=lambda: mlp(8, 24, 2),
        train_loader=DataLoader(TensorDataset(x, y), batch_size=50, sampler=sampler),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=adam,
    )


@sound("L05")
def margins_instead_of_likelihood() -> Recipe:
    x, y = table("wine")
    return Recipe(
        model=lambda: nn.Linear(13, 3),
        train_loader=batches(x, y, 16),
        loss_fn=nn.MultiMarginLoss(),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-3),
    )


@sound("L03")
def sigmoid_into_plain_bce() -> Recipe:
    x, y = table("breast_cancer")
    return Recipe(
        model=lambda: nn.Sequential(mlp(30, 24, 1), nn.Sigmoid(), nn.Flatten(0)),
        train_loader=batches(x, y.float(), 32),
        loss_fn=nn.BCELoss(),
        optimizer=adam,
    )


class LitOneCycle(LightningModule):
    """One cycle over the whole run, stepped after every batch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self(batch[0]), batch[1])}

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@sound("O16")
def lit_one_cycle_by_batches() -> Recipe:
    x, y = drawn(1000, 10, 3, seed=65)
    loader = batches(x[:800], y[:800], 32)
    return Recipe(
        model=lambda: LitOneCycle(20 * len(loader)),
        train_loader=loader,
        val_loader=batches(x[800:], y[800:], 100, shuffle=False),
        epochs=20,
    )


@sound("O19")
def loader_cut_into_four_and_averaged() -> Recipe:
    x, y = drawn(900, 10, 3, seed=66)
    model = mlp(10, 32, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def train_step(batch: tuple[Tensor, Tensor]) -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        for inputs, labels in zip(batch[0].chunk(4), batch[1].chunk(4), strict=True):
            loss = F.cross_entropy(model(inputs), labels, reduction="sum") / len(batch[0])
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total

    return Recipe(model=model, train_loader=batches(x, y, 48), optimizer=optimizer, train_step=train_step)


@sound("G16")
def weights_by_direction_and_length() -> Recipe:
    x, y = measured(900, 8, seed=67)
    norm = torch.nn.utils.parametrizations.weight_norm
    return Recipe(
        model=lambda: nn.Sequential(norm(nn.Linear(8, 32)), nn.Tanh(), norm(nn.Linear(32, 1))),
        train_loader=batches(x, y, 32),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=5e-3),
    )


class FrozenWords(nn.Module):
    """Word vectors that stay, words that are there averaged, a small net on top."""

    def __init__(self) -> None:
        super().__init__()
        vectors = torch.randn(32, 24, generator=seeded(3))
        self.words = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=0)
        self.net = mlp(24, 24, 2)

    def forward(self, ids: Tensor) -> Tensor:
        keep = (ids != 0).unsqueeze(-1)
        return self.net((self.words(ids) * keep).sum(1) / keep.sum(1))


@sound("G07")
def word_vectors_kept_as_they_are() -> Recipe:
    ids, _, labels = review_ids(900, 14, seed=68)
    return Recipe(
        model=FrozenWords,
        train_loader=batches(ids, labels, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3),
    )


@sound("D13")
def bars_rebuilt_from_themselves() -> Recipe:
    x = strokes(900, seed=69)
    return Recipe(
        model=lambda: nn.Sequential(mlp(64, 48, 8), nn.ReLU(), mlp(8, 48, 64), nn.Sigmoid()),
        train_loader=batches(x, x, 32),
        loss_fn=nn.MSELoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


class LastPlusChange(nn.Module):
    """Forecasts the change from the last value, which it adds."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.Flatten(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))
        nn.init.zeros_(self.change[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1] + self.change(x - x[:, -1:])


@sound("T14")
def forecast_as_a_change_from_now() -> Recipe:
    past, future = pasts_and_futures(demand(2000, 70), 24, 4, 3)
    return Recipe(
        model=LastPlusChange,
        train_loader=batches(past[:500], future[:500], 32),
        val_loader=batches(past[510:], future[510:], 64, shuffle=False),
        loss_fn=nn.L1Loss(),
        optimizer=adam,
    )


@sound("D01")
def instance_norm_before_anything_else() -> Recipe:
    x, y, _ = pictures(600, seed=71)
    return Recipe(
        model=lambda: nn.Sequential(
            nn.InstanceNorm2d(3),
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.GroupNorm(3, 12),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(384, 3),
        ),
        train_loader=batches(x, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=adam,
    )


class Noised(nn.Module):
    """Predicts the noise in points, told how much there is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2))

    def forward(self, x: Tensor) -> Tensor:
        t = torch.rand(len(x), 1)
        noise = torch.randn_like(x)
        noisy = (math.pi / 2 * t).cos() * x + (math.pi / 2 * t).sin() * noise
        return F.mse_loss(self.net(torch.cat([noisy, 2 * t - 1], 1)), noise)


@sound("E15")
def noise_guessed_at_any_level() -> Recipe:
    return Recipe(
        model=Noised,
        train_loader=DataLoader(TensorDataset(rings(1200, 72)), batch_size=64, shuffle=True),
        training_step=lambda model, batch: model(batch[0]),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


class SameOrNot(nn.Module):
    """One encoder for both pictures, and how far apart they come out."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, pair: Tensor) -> Tensor:
        a, b = self.encoder(pair[:, 0]), self.encoder(pair[:, 1])
        return ((a - b).pow(2).sum(1) + 1e-6).sqrt()


@sound("G23")
def pairs_of_digits_by_distance() -> Recipe:
    x, y = written(1600)
    pairs, same = x.reshape(800, 2, 64), (y[::2] == y[1::2]).float()
    g = seeded(4)
    for i in range(0, 800, 2):  # every second pair shows one digit twice
        other = (y == y[2 * i]).nonzero().flatten()
        other = other[other != 2 * i]
        pairs[i, 1] = x[other[torch.randint(len(other), (), generator=g)]]
        same[i] = 1.0

    def contrastive(distance: Tensor, together: Tensor) -> Tensor:
        return (together * distance**2 + (1 - together) * F.relu(2.0 - distance) ** 2).mean()

    return Recipe(model=SameOrNot, train_loader=batches(pairs, same, 32), loss_fn=contrastive, optimizer=adam)


@sound("L29")
def sharp_gaussians_fall_below_zero() -> Recipe:
    x, _ = measured(900, 6, seed=73)
    y = torch.stack([x[:, 0] + 0.5 * x[:, 1] ** 2, x[:, 2] - x[:, 3]], 1) / 1.5
    y = standard(y + 0.05 * torch.randn(y.shape, generator=seeded(5)))

    def likelihood(output: Tensor, target: Tensor) -> Tensor:
        mean, raw = output.chunk(2, 1)
        return F.gaussian_nll_loss(mean, target, F.softplus(raw) + 1e-3)

    return Recipe(
        model=lambda: mlp(6, 48, 48, 4),
        train_loader=batches(x, y, 32),
        loss_fn=likelihood,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@sound("L37")
def many_labels_at_once() -> Recipe:
    x, y = tags(1000, labels=5, seed=74)
    return Recipe(
        model=lambda: mlp(12, 32, 5),
        train_loader=batches(x, y, 32),
        loss_fn=nn.MultiLabelSoftMarginLoss(),
        optimizer=adam,
    )


class CosineHead(nn.Module):
    """Angles to one direction per class, sixteen times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(64, 64, 24)
        self.centres = nn.Parameter(torch.randn(10, 24))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.body(x), dim=1) @ F.normalize(self.centres, dim=1).T


@sound("L35")
def cosine_margin_of_faces() -> Recipe:
    x, y = written()

    def margin(cosine: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(16 * (cosine - 0.2 * F.one_hot(label, 10)), label)

    return Recipe(model=CosineHead, train_loader=batches(x, y, 32), loss_fn=margin, optimizer=adam)


class TimeMajor(nn.Module):
    """A GRU in its default order; batches are turned for it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(6, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x.transpose(0, 1))
        return self.fc(out.mean(0))


@sound("S03")
def traces_turned_for_a_time_first_gru() -> Recipe:
    x, y = motions(800, 20, 6, 4, seed=75)
    return Recipe(
        model=TimeMajor,
        train_loader=batches(x, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=4e-3),
    )


class SetAttention(nn.Module):
    """Attention over the points of a set, which have no order."""

    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Linear(2, 24)
        self.attend = nn.TransformerEncoderLayer(24, 2, 48, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(self.inp(x)).mean(1))


@sound("T10")
def spread_of_a_cloud_by_attention() -> Recipe:
    g = seeded(76)
    size = 0.4 + 1.2 * torch.rand(800, 1, generator=g)
    x = torch.randn(800, 10, 2, generator=g) * size[:, None]
    return Recipe(
        model=SetAttention,
        train_loader=batches(x, standard(size), 32),
        loss_fn=nn.MSELoss(),
        optimizer=adam,
    )


@sound("G19")
def hardest_half_of_every_batch() -> Recipe:
    x, y = written()

    def ohem(logits: Tensor, label: Tensor) -> Tensor:
        each = F.cross_entropy(logits, label, reduction="none")
        return each.topk(max(1, len(each) // 2)).values.mean()

    return Recipe(model=lambda: mlp(64, 48, 10), train_loader=batches(x, y, 32), loss_fn=ohem, optimizer=adam)


class Wide(nn.Module):
    """Categories by their vectors beside numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.city, self.month = nn.Embedding(9, 4), nn.Embedding(12, 3)
        self.net = nn.Sequential(nn.Linear(11, 32), nn.PReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, city: Tensor, month: Tensor, numbers: Tensor, price: Tensor) -> dict[str, Tensor]:
        out = self.net(torch.cat([self.city(city), self.month(month), numbers], 1)).squeeze(1)
        return {"loss": F.huber_loss(out, price), "prediction": out}


@sound("S07")
def rents_by_city_and_month() -> Recipe:
    g = seeded(77)
    city, month = torch.randint(9, (1000,), generator=g), torch.randint(12, (1000,), generator=g)
    numbers = torch.randn(1000, 4, generator=g)
    level = torch.randn(9, generator=g)
    price = level[city] + 0.5 * (month / 12 * 6.28).sin() + numbers[:, 0] - 0.5 * numbers[:, 1].abs()
    price = standard((price + 0.1 * torch.randn(1000, generator=g))[:, None])[:, 0]
    rows = [
        {"city": c, "month": m, "numbers": n, "price": p}
        for c, m, n, p in zip(city, month, numbers, price, strict=True)
    ]
    return Recipe(model=Wide, train_loader=DataLoader(rows, batch_size=32, shuffle=True), optimizer=adam)


@sound("I16")
def gates_of_a_mixture() -> Recipe:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.values = nn.Sequential(nn.Linear(8, 4), nn.Softmax(-1)), mlp(8, 32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.gate(x) * self.values(x)).sum(1, keepdim=True)

    x, y = measured(900, 8, seed=78)
    return Recipe(model=Mixture, train_loader=batches(x, y, 32), loss_fn=nn.MSELoss(), optimizer=adam)


@sound("O12")
def rate_cut_at_two_thirds_of_the_epochs() -> Recipe:
    x, y, _ = pictures(700, seed=79)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, 2, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    return Recipe(
        model=net,
        train_loader=batches((x - 0.4) / 0.22, y, 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.MultiStepLR(optimizer, [20, 27], gamma=0.1),
        scheduler_interval="epoch",
        epochs=30,
    )


class CharRNN(nn.Module):
    """A GRU over one-hot letters, without an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(len(ALPHABET), 40, batch_first=True)
        self.out = nn.Linear(40, len(ALPHABET))

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(F.one_hot(ids, len(ALPHABET)).float())[0]).transpose(1, 2)


@sound("L12")
def letters_one_hot_classes_second() -> Recipe:
    rows = LETTERS.unfold(0, 25, 24)
    return Recipe(
        model=CharRNN,
        train_loader=batches(rows[:, :-1].clone(), rows[:, 1:].clone(), 32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=5e-3),
    )


@sound("D08")
def waiting_times_through_an_exponential() -> Recipe:
    x, score = measured(900, 8, seed=80)
    mean = (0.6 * score).exp()
    wait = mean * -torch.rand(mean.shape, generator=seeded(6)).clamp(min=1e-4).log()

    def exponential(log_mean: Tensor, seconds: Tensor) -> Tensor:
        return (log_mean + seconds * (-log_mean).exp()).mean()

    return Recipe(model=lambda: mlp(8, 24, 1), train_loader=batches(x, wait, 32), loss_fn=exponential, optimizer=adam)
