"""Sound set-ups on sequences, graphs, sets and streams."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nncheck import Recipe
from tests.corpus import sound
from tests.corpus._material import (
    BOS,
    PAD,
    REVIEW_WORDS,
    additions,
    chain,
    characters,
    demand,
    motions,
    pasts_and_futures,
    prose,
    reviews,
    seeded,
    sentences,
    windows,
)


@sound("sequences of different lengths")
def packed_lstm_over_reviews() -> Recipe:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(REVIEW_WORDS), 24, padding_idx=PAD)
            self.lstm = nn.LSTM(24, 24, batch_first=True, bidirectional=True)
            self.head = nn.Linear(48, 2)

        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embed(ids), lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            _, (h, _) = self.lstm(packed)
            return self.head(torch.cat([h[0], h[1]], 1))

    def collate(batch: list[tuple[list[str], int]]) -> tuple[Tensor, Tensor, Tensor]:
        rows = [torch.tensor([REVIEW_WORDS.index(word) for word in words]) for words, _ in batch]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return ids, torch.tensor([len(row) for row in rows]), torch.tensor([label for _, label in batch])

    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        ids, lengths, labels = batch
        return F.cross_entropy(model(ids, lengths), labels)

    torch.manual_seed(0)
    model = Reader()
    return Recipe(
        model=model,
        train_loader=DataLoader(reviews(700), batch_size=32, shuffle=True, collate_fn=collate),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        training_step=training_step,
    )


@sound("the future is padded on the left only")
def wave_net_causal() -> Recipe:
    class Causal(nn.Module):
        def __init__(self, width: int, dilation: int) -> None:
            super().__init__()
            self.reach = 2 * dilation
            self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
            self.out = nn.Conv1d(width, 2 * width, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            a, b = self.conv(F.pad(x, (self.reach, 0))).chunk(2, 1)
            res, skip = self.out(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            return x + res, skip

    class WaveNet(nn.Module):
        def __init__(self, levels: int = 24) -> None:
            super().__init__()
            self.embed = nn.Embedding(levels, 20)
            self.layers = nn.ModuleList([Causal(20, 2**i) for i in range(3)])
            self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(20, 20, 1), nn.ReLU(), nn.Conv1d(20, levels, 1))

        def forward(self, x: Tensor) -> Tensor:
            h, total = self.embed(x).transpose(1, 2), torch.zeros(())
            for layer in self.layers:
                h, skip = layer(h)
                total = total + skip
            return self.head(total)

    torch.manual_seed(0)
    levels = ((demand(2400, 3)[:, 0].clamp(-2.4, 2.4) + 2.4) / 4.81 * 24).long()
    text = windows(levels, 25, 5)
    model = WaveNet()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(text[:, :-1].clone(), text[:, 1:].clone()), batch_size=16, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=4e-3),
    )


@sound("the decoder is fed the right answer, one step late")
def sequence_to_sequence_with_teacher_forcing() -> Recipe:
    class Adder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(14, 24)
            self.encoder, self.decoder = nn.GRU(24, 64, batch_first=True), nn.GRU(24, 64, batch_first=True)
            self.attend = nn.MultiheadAttention(64, 1, batch_first=True)
            self.head = nn.Linear(128, 14)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            memory, state = self.encoder(self.embed(source))
            inputs = F.pad(target[:, :-1], (1, 0), value=BOS)
            h, _ = self.decoder(self.embed(inputs), state)
            context, _ = self.attend(h, memory, memory, need_weights=False)
            return self.head(torch.cat([h, context], -1))

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        source, target = batch
        return F.cross_entropy(model(source, target).transpose(1, 2), target)

    torch.manual_seed(0)
    model = Adder()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*additions(1000)), batch_size=32, shuffle=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
        training_step=training_step,
    )


@sound("validation comes after training, and the level has moved a little")
def forecast_split_by_time() -> Recipe:
    torch.manual_seed(0)
    series = demand(1800)
    train_x, train_y = pasts_and_futures(series[:1400], 24, 4)
    val_x, val_y = pasts_and_futures(series[1400:], 24, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 4))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(train_x, train_y), batch_size=32, shuffle=True),
        val_loader=DataLoader(TensorDataset(val_x, val_y), batch_size=64),
        loss_fn=nn.HuberLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@sound("batches in order, on purpose")
def one_long_stream_read_in_order() -> Recipe:
    """A recurrent net reads one text in sixteen lanes; the state of a lane goes on from batch to batch."""

    class Lanes(IterableDataset[tuple[Tensor, Tensor, bool]]):
        def __init__(self, ids: Tensor, lanes: int = 16, steps: int = 16) -> None:
            length = (len(ids) - 1) // lanes
            self.x = ids[: lanes * length].view(lanes, length)
            self.y = ids[1 : lanes * length + 1].view(lanes, length)
            self.steps = steps

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor, bool]]:
            for start in range(0, self.x.size(1) - self.steps, self.steps):
                yield self.x[:, start : start + self.steps], self.y[:, start : start + self.steps], start == 0

    class Reader(nn.Module):
        def __init__(self, letters: int) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = (
                nn.Embedding(letters, 24),
                nn.GRU(24, 48, batch_first=True),
                nn.Linear(48, letters),
            )

        def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            h, state = self.rnn(self.embed(ids), state)
            return self.head(h), state

    torch.manual_seed(0)
    ids, alphabet = characters(prose(600))
    model = Reader(len(alphabet))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    kept: dict[str, Tensor] = {}

    def train_step(model: nn.Module, batch: tuple[Tensor, Tensor, bool]) -> Tensor:
        x, y, fresh = batch
        logits, state = model(x, None if fresh else kept.get("state"))
        kept["state"] = state.detach()
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return Recipe(
        model=model, train_loader=DataLoader(Lanes(ids), batch_size=None), optimizer=optimizer, train_step=train_step
    )


@sound("blank labels, lengths of their own")
def connectionist_words() -> Recipe:
    g = seeded(0)
    sounds = 1.5 * torch.randn(6, 8, generator=seeded(1))
    items = []
    for length in torch.randint(2, 6, (360,), generator=g).tolist():
        letters = torch.randint(6, (length,), generator=g)
        heard = sounds[letters].repeat_interleave(torch.randint(3, 6, (length,), generator=g), 0)
        items.append((heard + 0.3 * torch.randn(heard.shape, generator=g), letters + 1))

    def collate(batch: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {
            "sound": nn.utils.rnn.pad_sequence([s for s, _ in batch], batch_first=True),
            "frames": torch.tensor([len(s) for s, _ in batch]),
            "letters": torch.cat([w for _, w in batch]),
            "lengths": torch.tensor([len(w) for _, w in batch]),
        }

    class Listener(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 7)

        def forward(self, sound: Tensor) -> Tensor:
            return self.head(self.rnn(sound)[0])

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        log_probs = model(batch["sound"]).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_probs, batch["letters"], batch["frames"], batch["lengths"], zero_infinity=True)

    torch.manual_seed(0)
    model = Listener()
    return Recipe(
        model=model,
        train_loader=DataLoader(items, batch_size=16, shuffle=True, collate_fn=collate),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
        training_step=compute_loss,
    )


@sound("answers depend on one another, as nodes of a graph do")
def graph_convolution_on_one_graph() -> Recipe:
    """Two layers over 160 nodes in four communities; the loss counts the nodes that are drawn."""
    g = seeded(0)
    community = torch.arange(160) % 4
    near = (community[:, None] == community).float() * 0.12 + 0.01
    edges = (torch.rand(160, 160, generator=g) < near).float().triu(1)
    adjacency = edges + edges.T + torch.eye(160)
    degree = adjacency.sum(1).rsqrt()
    adjacency = degree[:, None] * adjacency * degree
    features = torch.randn(160, 12, generator=g)
    features[:, :4] += 0.8 * F.one_hot(community, 4)

    class GCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("adjacency", adjacency)
            self.register_buffer("features", features)
            self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 4)

        def forward(self, nodes: Tensor) -> Tensor:
            h = F.relu(self.adjacency @ self.first(self.features))
            return (self.adjacency @ self.second(h))[nodes]

    torch.manual_seed(0)
    model = GCN()
    nodes = torch.randperm(160, generator=g)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(nodes[:96], community[nodes[:96]]), batch_size=32, shuffle=True),
        val_loader=DataLoader(TensorDataset(nodes[96:], community[nodes[96:]]), batch_size=64),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4),
    )


@sound("nodes of several graphs in one batch")
def message_passing_over_batches_of_graphs() -> Recipe:
    """Graphs of 6 to 10 nodes laid end to end; is there a triangle among the marked nodes."""

    def graph(pick: torch.Generator) -> dict[str, Tensor]:
        n = int(torch.randint(6, 11, (), generator=pick))
        edges = (torch.rand(n, n, generator=pick) < 0.3).float().triu(1)
        edges = edges + edges.T
        x = torch.randn(n, 5, generator=pick)
        label = (edges.sum(1) * x[:, 0]).sum() > 0
        return {"x": x, "edges": edges, "y": label.long()}

    def collate(graphs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        sizes = torch.tensor([len(one["x"]) for one in graphs])
        return {
            "x": torch.cat([one["x"] for one in graphs]),
            "edges": torch.block_diag(*(one["edges"] for one in graphs)),
            "graph": torch.arange(len(graphs)).repeat_interleave(sizes),
            "y": torch.stack([one["y"] for one in graphs]),
        }

    class Messages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(5, 32)
            self.updates = nn.ModuleList([nn.Linear(64, 32) for _ in range(2)])
            self.head = nn.Linear(32, 2)

        def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
            h = F.relu(self.lift(x))
            for update in self.updates:
                h = F.relu(update(torch.cat([h, edges @ h], 1)))
            pooled = torch.zeros(int(graph.max()) + 1, 32).index_add(0, graph, h)
            return self.head(pooled)

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["x"], batch["edges"], batch["graph"]), batch["y"])

    torch.manual_seed(0)
    pick = seeded(4)
    model = Messages()
    return Recipe(
        model=model,
        train_loader=DataLoader([graph(pick) for _ in range(400)], batch_size=20, shuffle=True, collate_fn=collate),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        training_step=training_step,
    )


@sound("order makes no difference, as it should in a set")
def deep_sets_over_points() -> Recipe:
    g = seeded(0)
    kind = torch.randint(3, (480,), generator=g)
    angle = 6.28 * torch.rand(480, 24, generator=g)
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
    line = torch.stack([angle / 3.14 - 1, torch.zeros_like(angle), torch.zeros_like(angle)], -1)
    cloud = 0.6 * torch.randn(480, 24, 3, generator=g)
    points = torch.stack([circle, line, cloud], 1)[torch.arange(480), kind] + 0.1 * torch.randn(480, 24, 3, generator=g)

    class DeepSets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.each = nn.Sequential(nn.Linear(3, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
            self.all = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3))

        def forward(self, points: Tensor) -> Tensor:
            return self.all(self.each(points).amax(1))

    torch.manual_seed(0)
    model = DeepSets()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(points, kind), batch_size=24, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


@sound("weights used several times")
def one_layer_shared_on_purpose() -> Recipe:
    """Universal transformer: one block applied three times, tied input and output embeddings of small size."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(23, 32)
            nn.init.normal_(self.embed.weight, std=32**-0.5)
            self.place = nn.Parameter(0.02 * torch.randn(3, 16, 32))
            self.block = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
            self.norm = nn.LayerNorm(32)

        def forward(self, ids: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(ids.size(1))
            h = self.embed(ids)
            for turn in range(3):
                h = self.block(h + self.place[turn, : ids.size(1)], src_mask=mask, is_causal=True)
            return self.norm(h) @ self.embed.weight.T

    torch.manual_seed(0)
    rows = chain(600, 17)
    model = Shared()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=16, shuffle=True),
        loss_fn=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


@sound("layers solved for, with a detached loop")
def equilibrium_net() -> Recipe:
    """A fixed point is found without gradients, and one more step carries them."""

    class Equilibrium(nn.Module):
        def __init__(self, width: int = 32) -> None:
            super().__init__()
            self.lift, self.turn = nn.Linear(120, width), nn.Linear(width, width)
            nn.init.orthogonal_(self.turn.weight, gain=0.6)
            self.head = nn.Linear(width, 4)

        def forward(self, x: Tensor) -> Tensor:
            pushed = self.lift(x.flatten(1))
            with torch.no_grad():
                z = torch.zeros_like(pushed)
                for _ in range(15):
                    z = torch.tanh(self.turn(z) + pushed)
            return self.head(torch.tanh(self.turn(z) + pushed))

    torch.manual_seed(0)
    model = Equilibrium()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*motions(600)), batch_size=24, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@sound("one layer, many Euler steps")
def ordinary_differential_net() -> Recipe:
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Linear(6, 24)
            self.field = nn.Sequential(nn.Linear(25, 48), nn.Tanh(), nn.Linear(48, 24))
            self.head = nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.start(x[:, 0])
            for t in range(1, x.size(1)):
                when = torch.full((len(h), 1), t / x.size(1))
                h = h + 0.3 * self.field(torch.cat([h, when], 1)) + 0.3 * self.start(x[:, t])
            return self.head(torch.tanh(h))

    torch.manual_seed(0)
    model = Field()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*motions(480)), batch_size=24, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@sound("an endless stream without a length")
def samples_made_on_the_fly() -> Recipe:
    """Curriculum-free stream: which of two numbers, given digit by digit, is larger."""

    class Pairs(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(640):
                digits = torch.randint(10, (6,))
                a, b = (int("".join(map(str, part.tolist()))) for part in digits.split(3))
                yield digits, torch.tensor(int(a > b))

    class Compare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 16)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 2))

        def forward(self, digits: Tensor) -> Tensor:
            return self.net(self.embed(digits))

    torch.manual_seed(0)
    model = Compare()
    return Recipe(
        model=model,
        train_loader=DataLoader(Pairs(), batch_size=32),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@sound("steps, half of which only add gradients")
def gradients_of_two_batches_added() -> Recipe:
    """Two batches of eight make a step of sixteen: each loss is divided by two."""
    torch.manual_seed(0)
    rows = nn.utils.rnn.pad_sequence([F.pad(row, (1, 0), value=BOS) for row in sentences(480)], batch_first=True)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = (
                nn.Embedding(23, 32, padding_idx=PAD),
                nn.LSTM(32, 48, batch_first=True),
                nn.Linear(48, 23),
            )

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(ids))[0])

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)

    def train_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        (ids,) = batch
        optimizer.zero_grad()
        counted = (ids[:, 1:] != PAD).sum()
        total = 0.0
        for part in ids.chunk(2):
            logits = model(part[:, :-1])
            loss = F.cross_entropy(logits.transpose(1, 2), part[:, 1:], ignore_index=PAD, reduction="sum") / counted
            loss.backward()
            total = total + loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return total

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows), batch_size=16, shuffle=True),
        optimizer=optimizer,
        train_step=train_step,
    )


@sound("sinusoids that no optimizer holds")
def masked_pooling_with_fixed_positions() -> Recipe:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            step, speed = torch.arange(20.0)[:, None], torch.exp(torch.arange(0, 32, 2) * (-math.log(100.0) / 32))
            table = torch.stack([torch.sin(step * speed), torch.cos(step * speed)], -1).flatten(1)
            self.register_buffer("table", table)
            self.embed = nn.Embedding(len(REVIEW_WORDS), 32, padding_idx=PAD)
            self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
            self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 1)

        def forward(self, ids: Tensor) -> Tensor:
            empty = ids == PAD
            x = self.embed(ids) + self.table[: ids.size(1)]
            x = self.norm(x + self.attend(x, x, x, key_padding_mask=empty, need_weights=False)[0])
            kept = (~empty)[..., None].float()
            return self.head((x * kept).sum(1) / kept.sum(1)).squeeze(-1)

    def collate(batch: list[tuple[list[str], int]]) -> tuple[Tensor, Tensor]:
        rows = [torch.tensor([REVIEW_WORDS.index(word) for word in words]) for words, _ in batch]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([float(label) for _, label in batch])

    torch.manual_seed(0)
    model = Pooled()
    return Recipe(
        model=model,
        train_loader=DataLoader(reviews(640), batch_size=32, shuffle=True, collate_fn=collate),
        loss_fn=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )
