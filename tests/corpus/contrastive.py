"""Embeddings learned by comparison, teachers and students, users and items."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import pictures, seeded, table


def two_views(samples: int = 800, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two noisy linear views, 12 and 10 wide, of the same six hidden numbers; standardised."""
    g = seeded(seed)
    hidden = torch.randn(samples, 6, generator=g)
    a = hidden @ torch.randn(6, 12, generator=seeded(1)) + 0.3 * torch.randn(samples, 12, generator=g)
    b = torch.tanh(hidden) @ torch.randn(6, 10, generator=seeded(2)) + 0.2 * torch.randn(samples, 10, generator=g)
    return (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)


def tower(width: int, out: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, out))


class TwoTowers(nn.Module):
    """Questions and answers are embedded apart and compared by their angle."""

    def __init__(self, *, unit: bool = True, detached: bool = False) -> None:
        super().__init__()
        self.question, self.answer = tower(12), tower(10)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.unit, self.detached = unit, detached

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        q, a = self.question(question), self.answer(answer)
        if self.unit:
            q, a = F.normalize(q, dim=-1), F.normalize(a, dim=-1)
        if self.detached:
            a = a.detach()
        return self.log_scale.exp() * q @ a.T


def in_batch_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Every other answer of the batch is a wrong one."""
    scores = model(*batch)
    truth = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, truth) + F.cross_entropy(scores.T, truth)) / 2


def retrieval(model: nn.Module, *, lr: float = 2e-3) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*two_views()), batch_size=32, shuffle=True, drop_last=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
        training_step=in_batch_loss,
    )


@twin("loss-at-init", row="L35")
def embeddings_not_normalised(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = TwoTowers(unit=not fault)
    for side in (model.question, model.answer):
        nn.init.kaiming_normal_(side[0].weight)
        nn.init.kaiming_normal_(side[2].weight)
    return retrieval(model)


@twin("unused-parameters", "gradient-flow", row="G09")
def answers_detached(fault: bool) -> Recipe:
    torch.manual_seed(1)
    return retrieval(TwoTowers(detached=fault))


@twin("input-baseline", row="D12")
def pairs_shuffled_apart(fault: bool) -> Recipe:
    """Questions and answers were sorted by different keys before they were joined."""
    torch.manual_seed(2)
    questions, answers = two_views()
    if fault:
        answers = answers[answers[:, 0].argsort()]
    model = TwoTowers()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(questions, answers), batch_size=32, shuffle=True, drop_last=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
        training_step=in_batch_loss,
    )


class Distilled(nn.Module):
    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 3))

    def train(self, mode: bool = True) -> Distilled:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            taught = self.teacher(x)
        return self.student(x), taught


def taught_teacher(x: Tensor, y: Tensor) -> nn.Module:
    """A teacher that knows its task: 150 steps of Adam on all of it."""
    teacher = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    return teacher


def distillation(*, logs: bool, reduction: str, seed: int) -> Recipe:
    torch.manual_seed(seed)
    x, y = table()
    model = Distilled(taught_teacher(x, y))

    def criterion(outputs: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        student, taught = outputs[0] / 2.0, outputs[1] / 2.0
        first = student.log_softmax(-1) if logs else student.softmax(-1)
        return 4.0 * F.kl_div(first, taught.softmax(-1), reduction=reduction)

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=criterion,
        optimizer=torch.optim.Adam(model.student.parameters(), lr=4e-3),
    )


@twin("loss-at-init", "loss-decreases", row="L27")
def divergence_of_probabilities(fault: bool) -> Recipe:
    """`kl_div` wants the student's log-probabilities."""
    return distillation(logs=not fault, reduction="batchmean", seed=0)


@twin("loss-at-init", row="L28")
def divergence_divided_by_classes_too(fault: bool) -> Recipe:
    return distillation(logs=True, reduction="mean" if fault else "batchmean", seed=1)


class Bootstrapped(nn.Module):
    """BYOL: the student predicts what a slow copy of itself sees in another view."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(12, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 24))
        self.predictor = nn.Sequential(nn.Linear(24, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24))
        self.target = copy.deepcopy(self.online)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        def towards(seen: Tensor, goal: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = F.normalize(self.target(goal), dim=-1)
            return 2 - 2 * (F.normalize(self.predictor(self.online(seen)), dim=-1) * wanted).sum(-1).mean()

        return (towards(one, other) + towards(other, one)) / 2


class TwoCrops(Dataset[tuple[Tensor, Tensor]]):
    """Two noisy copies of a row, new ones every time."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        row = self.rows[i]
        return row + 0.2 * torch.randn_like(row), row + 0.2 * torch.randn_like(row)


@twin(
    "optimizer-coverage",
    "unused-parameters",
    row="O22",
    unseen="no gradient reaches the slow copy, and torch's optimizers leave alone what has none: both train bit for bit alike",
)
def slow_copy_in_the_optimizer(fault: bool) -> Recipe:
    """The target network, which only the moving average may write, is left trainable and given to the optimizer."""
    torch.manual_seed(0)
    model = Bootstrapped()
    model.target.requires_grad_(fault)
    trained = model.parameters() if fault else [*model.online.parameters(), *model.predictor.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=1e-2)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        optimizer.zero_grad()
        loss = model(*batch)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(model.target.parameters(), model.online.parameters(), strict=True):
                slow.lerp_(fast, 0.02)
        return loss

    loader = DataLoader(TwoCrops(two_views()[0]), batch_size=32, shuffle=True, drop_last=True)
    return Recipe(model=model, train_loader=loader, optimizer=optimizer, train_step=train_step)


class Triplets(Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor, *, sound: bool) -> None:
        self.x, self.y, self.sound = x, y, sound
        self.of = [torch.nonzero(y == c).squeeze(1) for c in range(int(y.max()) + 1)]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        c = int(self.y[i])
        other = (c + 1 + int(torch.randint(len(self.of) - 1, ()))) % len(self.of)
        friend = self.of[c][torch.randint(len(self.of[c]), ())]
        stranger = self.of[other][torch.randint(len(self.of[other]), ())]
        return self.x[i], self.x[friend], self.x[stranger] if self.sound else self.x[friend]


@twin("overfit-batch", "input-baseline", "gradient-flow", "loss-at-init", "duplicate-samples", row="L35")
def stranger_is_the_friend(fault: bool) -> Recipe:
    """The negative is drawn from the anchor's own class: the margin is all that is left."""
    torch.manual_seed(0)
    x, y = table(600)
    model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 16))
    margin = nn.TripletMarginLoss(margin=0.5)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        anchor, positive, negative = (F.normalize(model(part), dim=-1) for part in batch)
        return margin(anchor, positive, negative)

    return Recipe(
        model=model,
        train_loader=DataLoader(Triplets(x, y, sound=not fault), batch_size=32, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        training_step=training_step,
    )


def ratings() -> tuple[Tensor, Tensor]:
    """1500 ratings around 3.5 by 60 users of 40 items: biases of both, and three tastes."""
    g = seeded(0)
    pair = torch.stack([torch.randint(60, (1500,), generator=g), torch.randint(40, (1500,), generator=g)], 1)
    users, items = torch.randn(60, 4, generator=g), torch.randn(40, 4, generator=g)
    score = 3.5 + 0.5 * users[pair[:, 0], 0] + 0.5 * items[pair[:, 1], 0]
    score = score + 0.3 * (users[pair[:, 0], 1:] * items[pair[:, 1], 1:]).sum(1) + 0.2 * torch.randn(1500, generator=g)
    return pair, score


class Tastes(nn.Module):
    def __init__(self, mean: float, *, flat: bool = True) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(60, 8), nn.Embedding(40, 8)
        self.user_bias, self.item_bias = nn.Embedding(60, 1), nn.Embedding(40, 1)
        self.mean = nn.Parameter(torch.tensor(mean))
        self.flat = flat
        for embedding in (self.user, self.item):
            nn.init.normal_(embedding.weight, std=0.1)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)

    def forward(self, pair: Tensor) -> Tensor:
        user, item = pair[:, 0], pair[:, 1]
        match = (self.user(user) * self.item(item)).sum(1, keepdim=True)
        score = self.mean + match + self.user_bias(user) + self.item_bias(item)
        return score.squeeze(1) if self.flat else score


def rating_recipe(model: nn.Module, loss_fn: object) -> Recipe:
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*ratings()), batch_size=50, shuffle=True),
        loss_fn=loss_fn,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2),
    )


@twin("loss-broadcast", "overfit-batch", row="L15")
def scores_in_a_column(fault: bool) -> Recipe:
    """(50, 1) scores against (50,) ratings, in a loss written by hand."""
    torch.manual_seed(0)

    def squared(scores: Tensor, wanted: Tensor) -> Tensor:
        return ((scores - wanted) ** 2).mean()

    return rating_recipe(Tastes(3.5, flat=not fault), squared)


@twin("output-bias-init", row="I09")
def mean_rating_not_in_the_bias(fault: bool) -> Recipe:
    torch.manual_seed(1)
    return rating_recipe(Tastes(0.0 if fault else 3.5), nn.MSELoss())


@twin("eval-mode", row="E11")
def frozen_encoder_still_counts_statistics(fault: bool) -> Recipe:
    """A linear probe of a frozen encoder whose batch norms stay in training mode."""

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            ).requires_grad_(False)  # fmt: skip
            self.head = nn.Linear(96, 4)

        def train(self, mode: bool = True) -> Probe:
            super().train(mode)
            if not fault:
                self.encoder.eval()
            return self

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x))

    torch.manual_seed(0)
    x, y = pictures()
    model = Probe()
    with torch.no_grad():  # its statistics are those of the data it was trained on
        for _ in range(20):
            model.encoder.train()(x[:128])
    model.train()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.head.parameters(), lr=5e-3),
    )


@twin("batch-mixing", row="L10")
def probabilities_over_the_batch(fault: bool) -> Recipe:
    """Attention of a user's profile over the catalogue of items, normalised along the wrong axis."""

    class Recommender(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.profile, self.items = tower(12, 24), nn.Parameter(torch.randn(16, 24) / 5)
            self.head = nn.Linear(24, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.profile(x)
            weights = F.softmax(h @ self.items.T, dim=0 if fault else 1)
            return F.log_softmax(self.head(h + weights @ self.items), dim=1)

    torch.manual_seed(0)
    questions, answers = two_views()
    model = Recommender()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(questions, answers[:, :5].argmax(1)), batch_size=32, shuffle=True),
        loss_fn=nn.NLLLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )
