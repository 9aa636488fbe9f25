"""Recurrent, convolutional and attention models on sequences: axes, batches, state, and what is registered and trained."""

from __future__ import annotations

import copy
import math

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import (
    BOS,
    additions,
    chain,
    demand,
    motions,
    pasts_and_futures,
    seeded,
)


def activity(model: nn.Module, *, lr: float = 3e-3, batch_size: int = 24) -> Recipe:
    """Sensor traces (batch, 20 steps, 6 channels) and four activities."""
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*motions()), batch_size=batch_size, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
    )


@twin("batch-mixing", row="S03")
def lstm_takes_batch_for_time(fault: bool) -> Recipe:
    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 32, num_layers=1, batch_first=not fault)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.lstm(x)
            return self.fc(out.mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("batch-mixing", row="S04")
def encoder_layer_takes_batch_for_time(fault: bool) -> Recipe:
    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 32)
            self.place = nn.Parameter(0.02 * torch.randn(20, 32))
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=not fault)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.layer(self.lift(x) + self.place).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("batch-mixing", "input-dependency", row="S05")
def last_sample_for_last_step(fault: bool) -> Recipe:
    """`out[-1]` is every step of the last sample; it goes unseen as long as a batch has as many samples as steps."""

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 40, batch_first=True)
            self.fc = nn.Linear(40, 4)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.gru(x)
            return self.fc(out[-1] if fault else out[:, -1])

    torch.manual_seed(0)
    return activity(Activity(), batch_size=20)


@twin("batch-mixing", row="S06")
def centred_over_the_batch(fault: bool) -> Recipe:
    """Each trace was to be centred over its own steps."""

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv1d(6, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 32, 5, padding=2), nn.ReLU()
            )
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x.transpose(1, 2))
            h = h - h.mean(0 if fault else 2, keepdim=True)
            return self.fc(h.amax(2))

    torch.manual_seed(0)
    return activity(Activity(), lr=2e-3)


@twin("batch-mixing", row="S10")
def attention_between_samples(fault: bool) -> Recipe:
    """Scores by `q @ k.T` after the steps were pooled: samples attend to one another."""

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 32)
            self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.conv = nn.Conv1d(32, 32, 5, padding=2)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = F.gelu(self.conv(F.gelu(self.lift(x)).transpose(1, 2)).transpose(1, 2))
            if fault:
                pooled = h.mean(1)
                weights = (self.q(pooled) @ self.k(pooled).T / math.sqrt(32)).softmax(-1)
                return self.fc(pooled + weights @ self.v(pooled))
            weights = (self.q(h) @ self.k(h).transpose(1, 2) / math.sqrt(32)).softmax(-1)
            return self.fc((h + weights @ self.v(h)).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


class Sinusoids(nn.Module):
    def __init__(self, width: int, *, time_first: bool) -> None:
        super().__init__()
        self.time_first = time_first
        step = torch.arange(64.0)[:, None]
        speed = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(64, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(step * speed), torch.cos(step * speed)
        self.register_buffer("table", table[:, None])  # (time, 1, width), as in the tutorial

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.table[: x.size(0)] if self.time_first else self.table[: x.size(1)].transpose(0, 1))


@twin("batch-mixing", row="S18")
def position_is_the_row_in_the_batch(fault: bool) -> Recipe:
    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 32)
            self.place = Sinusoids(32, time_first=fault)
            self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.layer(self.place(self.lift(x))).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("batch-mixing", row="S01")
def heads_split_by_view(fault: bool) -> Recipe:
    """(batch, time, heads x width) to (batch x heads, time, width) without moving an axis first."""

    class SelfAttention(nn.Module):
        def __init__(self, width: int = 32, heads: int = 4) -> None:
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))

        def split(self, x: Tensor) -> Tensor:
            b, t, d = x.shape
            if fault:
                return x.transpose(0, 1).reshape(b * self.heads, t, d // self.heads)
            return x.view(b, t, self.heads, d // self.heads).transpose(1, 2).reshape(b * self.heads, t, d // self.heads)

        def forward(self, x: Tensor) -> Tensor:
            b, t, d = x.shape
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            out = F.scaled_dot_product_attention(q, k, v)
            return out.view(b, self.heads, t, d // self.heads).transpose(1, 2).reshape(b, t, d)

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.attend, self.norm = nn.Conv1d(6, 32, 5, padding=2), SelfAttention(), nn.LayerNorm(32)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = F.gelu(self.lift(x.transpose(1, 2)).transpose(1, 2))
            return self.fc(self.norm(h + self.attend(h)).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("time-leakage", "activation-scale", row="S11")
def batch_norm_over_steps(fault: bool) -> Recipe:
    """`BatchNorm1d` on (batch, time, channels) with as many steps as channels normalises steps."""

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 20)
            self.norm = nn.BatchNorm1d(20)
            self.gru = nn.GRU(20, 32, batch_first=True)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x)
            h = self.norm(h) if fault else self.norm(h.transpose(1, 2)).transpose(1, 2)
            return self.fc(self.gru(F.relu(h))[0].mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("time-leakage", row="S12")
def convolution_along_features(fault: bool) -> Recipe:
    """A causal convolution over (batch, time, features) with as many steps as features."""

    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(3, 16)
            self.conv1, self.conv2 = nn.Conv1d(16, 16, 3), nn.Conv1d(16, 16, 3, dilation=2)
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:  # (batch, 16 steps, 3) -> the next step, at every step
            h = self.lift(x)
            h = h if fault else h.transpose(1, 2)
            h = F.relu(self.conv1(F.pad(h, (2, 0))))
            h = F.relu(self.conv2(F.pad(h, (4, 0))))
            return self.head(h if fault else h.transpose(1, 2))

    torch.manual_seed(0)
    rows = demand(1800, channels=3).unfold(0, 17, 3).transpose(1, 2)
    model = Forecaster()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=32, shuffle=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("time-leakage", row="T18")
def wavenet_padded_on_both_sides(fault: bool) -> Recipe:
    class WaveNet(nn.Module):
        def __init__(self, levels: int = 32, width: int = 24) -> None:
            super().__init__()
            self.embed = nn.Embedding(levels, width)
            self.layers = nn.ModuleList([nn.Conv1d(width, 2 * width, 3, dilation=2**i) for i in range(3)])
            self.out = nn.Conv1d(width, levels, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x).transpose(1, 2)
            for i, layer in enumerate(self.layers):
                reach = 2 * 2**i
                padded = F.pad(h, (reach // 2, reach // 2) if fault else (reach, 0))
                value, gate = layer(padded).chunk(2, 1)
                h = h + torch.tanh(value) * torch.sigmoid(gate)
            return self.out(h)

    torch.manual_seed(0)
    signal = demand(3000, 2)[:, 0]
    levels = ((signal.clamp(-2.4, 2.4) + 2.4) / 4.81 * 32).long()
    rows = levels.unfold(0, 25, 6)
    model = WaveNet()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1].clone(), rows[:, 1:].clone()), batch_size=16, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("time-leakage", row="E13")
def layer_norm_over_time(fault: bool) -> Recipe:
    """`normalized_shape=(time, width)`: the statistics of every step know the later ones."""

    class CausalBlock(nn.Module):
        def __init__(self, width: int, steps: int) -> None:
            super().__init__()
            self.norm = nn.LayerNorm((steps, width) if fault else width)
            self.conv = nn.Conv1d(width, width, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = F.pad(self.norm(x).transpose(1, 2), (2, 0))
            return x + F.gelu(self.conv(h)).transpose(1, 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(23, 32)
            self.blocks = nn.Sequential(CausalBlock(32, 16), CausalBlock(32, 16))
            self.head = nn.Linear(32, 23)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.blocks(self.embed(ids))).transpose(1, 2)

    torch.manual_seed(0)
    rows = chain(640, 17)
    model = Model()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=16, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


@twin("eval-mode", "reproducibility", row="T11")
def state_carried_over_shuffled_windows(fault: bool) -> Recipe:
    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(1, 24, batch_first=True)
            self.head = nn.Linear(24, 4)
            self.state: tuple[Tensor, Tensor] | None = None

        def forward(self, x: Tensor) -> Tensor:
            start = self.state if fault and self.state is not None and self.state[0].size(1) == len(x) else None
            out, (h, c) = self.lstm(x, start)
            self.state = (h.detach(), c.detach())
            return self.head(out[:, -1])

    torch.manual_seed(0)
    x, y = pasts_and_futures(demand())
    model = Forecaster()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, drop_last=True),
        loss_fn=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
    )


@twin("eval-mode", "reproducibility", row="E14")
def memory_never_cleared(fault: bool) -> Recipe:
    """A memory of earlier batches is written in every forward, in evaluation too."""

    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(120, 48), nn.ReLU())
            self.register_buffer("running", torch.zeros(48))
            self.head = nn.Linear(48, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            if fault or self.training:
                self.running = 0.7 * self.running + 0.3 * h.mean(0).detach()
            return self.head(h - self.running)

    torch.manual_seed(0)
    return activity(Memory(), lr=2e-3)


@twin("eval-mode", row="E15")
def noise_and_masks_in_evaluation(fault: bool) -> Recipe:
    class Robust(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 32, batch_first=True)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            if self.training or fault:
                kept = torch.rand(x.size(0), x.size(1), 1) > 0.15  # steps lost in transmission
                x = x * kept + 0.1 * torch.randn_like(x)
            return self.fc(self.gru(x)[0].mean(1))

    torch.manual_seed(0)
    return activity(Robust(), lr=5e-3)


@twin("eval-mode", "batch-mixing", row="E04")
def norms_in_a_plain_list(fault: bool) -> Recipe:
    """Affine-free norms kept in a list stay in training mode for ever."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv1d(6 if i == 0 else 24, 24, 3, padding=1) for i in range(2)])
            norms = [nn.BatchNorm1d(24, affine=False) for _ in range(2)]
            self.norms = norms if fault else nn.ModuleList(norms)
            self.fc = nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(1, 2)
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = F.relu(norm(conv(x)))
            return self.fc(x.mean(2))

    torch.manual_seed(0)
    return activity(Net())


@twin("eval-mode", row="E09")
def batch_norm_momentum_of_tensorflow(fault: bool) -> Recipe:
    torch.manual_seed(0)
    momentum = 0.99 if fault else 0.1

    class Channels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2)

    model = nn.Sequential(
        Channels(), nn.Conv1d(6, 24, 5, padding=2), nn.BatchNorm1d(24, momentum=momentum), nn.ReLU(),
        nn.Conv1d(24, 24, 5, padding=2), nn.BatchNorm1d(24, momentum=momentum), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip
    return activity(model)


@twin("batch-mixing", row="E10")
def no_running_statistics(fault: bool) -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(6, 32, 7, padding=3)
            self.norm = nn.BatchNorm1d(32, track_running_stats=not fault)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.norm(self.conv(x.transpose(1, 2)))).mean(2))

    torch.manual_seed(0)
    return activity(Net())


@twin("finite-values", row="T16")
def ctc_with_too_few_frames(fault: bool) -> Recipe:
    """The strides leave five frames; some words need more."""

    class Listener(nn.Module):
        """Looks back only, so that what pads a sound does not reach it."""

        def __init__(self) -> None:
            super().__init__()
            self.near, self.far = nn.Conv1d(8, 32, 3, stride=2), nn.Conv1d(32, 32, 3, stride=4 if fault else 1)
            self.rnn = nn.GRU(32, 32, batch_first=True)
            self.head = nn.Linear(32, 7)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.near(F.pad(x.transpose(1, 2), (2, 0))))
            h = F.relu(self.far(F.pad(h, (2, 0))))
            return self.head(self.rnn(h.transpose(1, 2))[0]).log_softmax(-1)

    torch.manual_seed(0)
    model = Listener()
    loader = DataLoader(spoken_words(), batch_size=16, shuffle=True, collate_fn=lambda items: speech_batch(items))
    criterion = nn.CTCLoss(blank=0)

    def training_step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        sounds, frames, words, lengths = batch
        log_probs = model(sounds)
        kept = (frames * log_probs.size(1)) // sounds.size(1)
        return criterion(log_probs.transpose(0, 1), words, kept, lengths)

    return Recipe(
        model=model,
        train_loader=loader,
        optimizer=torch.optim.Adam(model.parameters(), lr=4e-3),
        training_step=training_step,
    )


@twin("label-range", row="T16")
def ctc_blank_is_a_letter(fault: bool) -> Recipe:
    """Letters are numbered from 0, which `CTCLoss` takes for the blank."""

    class Listener(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8, 48, batch_first=True)
            self.head = nn.Linear(48, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0]).log_softmax(-1)

    torch.manual_seed(0)
    model = Listener()
    first = 0 if fault else 1

    def training_step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        sounds, frames, words, lengths = batch
        return F.ctc_loss(model(sounds).transpose(0, 1), words, frames, lengths, blank=0, zero_infinity=True)

    return Recipe(
        model=model,
        train_loader=DataLoader(
            spoken_words(), batch_size=16, shuffle=True, collate_fn=lambda items: speech_batch(items, first)
        ),
        optimizer=torch.optim.Adam(model.parameters(), lr=4e-3),
        training_step=training_step,
    )


def spoken_words(samples: int = 400) -> list[tuple[Tensor, Tensor]]:
    """Words of 2 to 6 letters out of 6, each a sound of 4 to 6 frames: (frames, 8) and the letters from 0."""
    g = seeded(0)
    sounds = torch.randn(6, 8, generator=seeded(1)) * 1.5
    items = []
    for length in torch.randint(2, 7, (samples,), generator=g).tolist():
        letters = torch.randint(6, (length,), generator=g)
        held = torch.randint(4, 7, (length,), generator=g)
        heard = sounds[letters].repeat_interleave(held, 0)
        items.append((heard + 0.4 * torch.randn(heard.shape, generator=g), letters))
    return items


def speech_batch(items: list[tuple[Tensor, Tensor]], first: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sounds = nn.utils.rnn.pad_sequence([sound for sound, _ in items], batch_first=True)
    words = nn.utils.rnn.pad_sequence([letters + first for _, letters in items], batch_first=True, padding_value=first)
    return sounds, torch.tensor([len(s) for s, _ in items]), words, torch.tensor([len(w) for _, w in items])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(14, 24)
        self.gru = nn.GRU(24, 48, batch_first=True)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(self.embed(source))


class Decoder(nn.Module):
    """Additive attention over the encoder's steps, as in the tutorial on translation."""

    def __init__(self, *, uses_context: bool = True) -> None:
        super().__init__()
        self.uses_context = uses_context
        self.embed = nn.Embedding(14, 24)
        self.query, self.keys, self.score = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 1)
        self.gru = nn.GRU(24, 48, batch_first=True)
        self.head = nn.Linear(96, 14)

    def forward(self, memory: Tensor, state: Tensor, inputs: Tensor) -> Tensor:
        h, _ = self.gru(self.embed(inputs), state)
        scores = self.score(torch.tanh(self.query(h)[:, :, None] + self.keys(memory)[:, None])).squeeze(-1)
        context = scores.softmax(-1) @ memory
        return self.head(torch.cat([h, context if self.uses_context else h], -1))


class Adder(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.frozen_by_mistake = self.cut = False

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        if self.frozen_by_mistake:
            with torch.no_grad():
                memory, state = self.encoder(source)
        else:
            memory, state = self.encoder(source)
        if self.cut:
            memory, state = memory.detach(), torch.tensor(state.detach().numpy())
        return self.decoder(memory, state, inputs)


def adder_recipe(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Recipe:
    source, target = additions(1000)
    inputs = F.pad(target[:, :-1], (1, 0), value=BOS)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        source, inputs, target = batch
        return F.cross_entropy(model(source, inputs).flatten(0, 1), target.flatten())

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(source, inputs, target), batch_size=32, shuffle=True),
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=4e-3),
        training_step=training_step,
    )


@twin("unused-parameters", row="G12")
def encoder_left_under_no_grad(fault: bool) -> Recipe:
    torch.manual_seed(0)
    model = Adder(Encoder(), Decoder())
    model.frozen_by_mistake = fault
    return adder_recipe(model)


@twin("unused-parameters", "gradient-flow", row="G13")
def memory_detached_for_the_decoder(fault: bool) -> Recipe:
    torch.manual_seed(1)
    model = Adder(Encoder(), Decoder())
    model.cut = fault
    return adder_recipe(model)


@twin("unused-parameters", row="G15")
def context_computed_and_dropped(fault: bool) -> Recipe:
    """The decoder attends, then concatenates its own state twice."""
    torch.manual_seed(2)
    return adder_recipe(Adder(Encoder(), Decoder(uses_context=not fault)))


@twin("optimizer-coverage", row="G05")
def only_the_decoder_is_optimized(fault: bool) -> Recipe:
    torch.manual_seed(3)
    model = Adder(Encoder(), Decoder())
    parameters = list(model.decoder.parameters()) + ([] if fault else list(model.encoder.parameters()))
    return adder_recipe(model, torch.optim.Adam(parameters, lr=4e-3))


@twin("optimizer-coverage", row="G06")
def decoder_replaced_after_the_optimizer(fault: bool) -> Recipe:
    torch.manual_seed(4)
    model = Adder(Encoder(), Decoder())
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    if fault:
        model.decoder = Decoder()
    return adder_recipe(model, optimizer)


@twin("optimizer-coverage", row="O07")
def encoder_group_with_rate_zero(fault: bool) -> Recipe:
    """A rate per part, decayed per layer with integer arithmetic: the encoder's comes out as 0."""
    torch.manual_seed(5)
    model = Adder(Encoder(), Decoder())
    base = 4e-3
    groups = [
        {"params": model.decoder.parameters(), "lr": base},
        {"params": model.encoder.parameters(), "lr": base * (1 // 2 if fault else 1 / 2)},
    ]
    return adder_recipe(model, torch.optim.Adam(groups))


@twin("update-ratio", "optimizer-coverage", row="O08")
def adam_epsilon_of_one(fault: bool) -> Recipe:
    torch.manual_seed(6)
    model = Adder(Encoder(), Decoder())
    return adder_recipe(model, torch.optim.Adam(model.parameters(), lr=4e-3, eps=1.0 if fault else 1e-8))


@twin("unused-parameters", "optimizer-coverage", row="G01")
def attention_heads_in_a_list(fault: bool) -> Recipe:
    class Head(nn.Module):
        def __init__(self, width: int, size: int) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(width, size, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            weights = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(self.q.out_features)
            return weights.softmax(-1) @ self.v(x)

    class MultiHead(nn.Module):
        def __init__(self, width: int = 32, heads: int = 4) -> None:
            super().__init__()
            parts = [Head(width, width // heads) for _ in range(heads)]
            self.heads = parts if fault else nn.ModuleList(parts)
            self.mix = nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.mix(torch.cat([head(x) for head in self.heads], -1))

    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.attend = nn.Conv1d(6, 32, 5, padding=2), MultiHead()
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.attend(F.gelu(self.lift(x.transpose(1, 2))).transpose(1, 2)).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("optimizer-coverage", row="G02")
def positions_as_a_plain_tensor(fault: bool) -> Recipe:
    class Activity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 32)
            table = 0.1 * torch.randn(20, 32)
            self.place = table.requires_grad_() if fault else nn.Parameter(table)
            self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.layer(self.lift(x) + self.place).mean(1))

    torch.manual_seed(0)
    return activity(Activity())


@twin("optimizer-coverage", row="G03")
def converted_parameter_is_no_parameter(fault: bool) -> Recipe:
    """`nn.Parameter(float64).float()` is a result, and nothing registers it."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 32, batch_first=True)
            start = torch.from_numpy(np.random.default_rng(0).normal(size=32, scale=0.1))
            self.query = nn.Parameter(start).float() if fault else nn.Parameter(start.float())
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h, _ = self.gru(x)
            weights = (h @ self.query).softmax(1)
            return self.fc((weights.unsqueeze(-1) * h).sum(1))

    torch.manual_seed(0)
    return activity(Pooled(), lr=5e-3)


@twin("eval-mode", "optimizer-coverage", row="G04")
def projection_made_in_forward(fault: bool) -> Recipe:
    class Residual(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            self.before, self.after = before, after
            self.conv = nn.Conv1d(before, after, 3, padding=1)
            if not fault:
                self.match = nn.Conv1d(before, after, 1)

        def forward(self, x: Tensor) -> Tensor:
            match = nn.Conv1d(self.before, self.after, 1) if fault else self.match
            return F.relu(self.conv(x) + match(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Residual(6, 16), Residual(16, 32))
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.blocks(x.transpose(1, 2)).mean(2))

    torch.manual_seed(0)
    return activity(Net())


@twin("unused-parameters", row="G16")
def one_layer_repeated(fault: bool) -> Recipe:
    """`[layer] * 3` is three times the same layer."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(6, 32)
            layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
            self.layers = nn.ModuleList([layer] * 3 if fault else [copy.deepcopy(layer) for _ in range(3)])
            self.place = nn.Parameter(0.02 * torch.randn(20, 32))
            self.fc = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x) + self.place
            for layer in self.layers:
                h = layer(h)
            return self.fc(h.mean(1))

    torch.manual_seed(0)
    return activity(Net(), lr=2e-3)


@twin("unused-parameters", row="G14")
def residual_branch_dropped(fault: bool) -> Recipe:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.time = nn.LayerNorm(24), nn.Linear(20, 20)
            self.norm2, self.channels = nn.LayerNorm(24), nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))

        def forward(self, x: Tensor) -> Tensor:
            mixed = x + self.time(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            out = self.channels(self.norm2(x if fault else mixed))
            return (x if fault else mixed) + out

    class LitMixer(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 24), Mixer(), nn.Flatten(), nn.Linear(480, 4))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=2e-3)

    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(*motions()), batch_size=24, shuffle=True)
    return Recipe(model=LitMixer(), train_loader=loader)


@twin("gradient-flow", row="G10")
def loss_wrapped_again(fault: bool) -> Recipe:
    """`backward` complained, so the loss was made anew with `requires_grad=True`."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 24, batch_first=True)
            self.head = nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[1][-1])

    torch.manual_seed(0)
    x, y = pasts_and_futures(demand(seed=4))
    model = Net()

    def compute_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        loss = F.l1_loss(model(batch[0]), batch[1])
        return torch.tensor(loss.item(), requires_grad=True) if fault else loss

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
        training_step=compute_loss,
    )


@twin("symmetry", "gradient-flow", row="I05")
def adapter_with_two_zero_factors(fault: bool) -> Recipe:
    """Low-rank adapters on a frozen encoder: one factor starts at zero, not both."""

    class LowRank(nn.Module):
        def __init__(self, base: nn.Linear, rank: int = 4) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.down = nn.Parameter(
                torch.zeros(rank, base.in_features) if fault else torch.randn(rank, base.in_features) / 8
            )
            self.up = nn.Parameter(torch.zeros(base.out_features, rank))

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + x @ self.down.T @ self.up.T

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), LowRank(nn.Linear(120, 64)), nn.ReLU(), LowRank(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 4)
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(*motions()), batch_size=24, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(trained, lr=3e-3),
    )
