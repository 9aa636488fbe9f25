"""Recurrent nets and transformers: time-first layouts, padding, masks, tied weights, routing."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncheck import Recipe
from tests.healthy.data import chains, generator, loader, tokens, waves


def _adam(model: nn.Module, lr: float = 2e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def lstm_batch_first() -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1]).squeeze(1)

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(*waves()), loss_fn=nn.MSELoss(), optimizer=_adam(model))


def gru_time_first() -> Recipe:
    """The inner layout is (time, batch, ...), reached by a transpose."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gru, self.head = nn.Embedding(40, 16), nn.GRU(16, 32, num_layers=2), nn.Linear(32, 4)

        def forward(self, ids: Tensor) -> Tensor:
            states, _ = self.gru(self.embed(ids).transpose(0, 1))
            return self.head(states.mean(0))

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(*tokens()), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def tagger_with_padding() -> Recipe:
    """Bidirectional, packed, and -100 where there is no token."""
    ids = chains()
    lengths = torch.randint(6, 17, (len(ids),), generator=generator(1))
    outside = torch.arange(16) >= lengths[:, None]
    labels = ((ids + ids.roll(1, 1)) % 3).masked_fill(outside, -100)
    labels[:, 0] = -100
    ids = (ids + 1).masked_fill(outside, 0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(25, 24, padding_idx=0)
            self.lstm = nn.LSTM(24, 32, batch_first=True, bidirectional=True)
            self.head = nn.Linear(64, 3)

        def forward(self, ids: Tensor) -> Tensor:
            lengths = (ids != 0).sum(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
            states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=16)
            return self.head(states)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=-100)

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(ids, labels), loss_fn=loss_fn, optimizer=_adam(model))


def connectionist_temporal_classification() -> Recipe:
    g = generator()
    labels = torch.randint(1, 5, (512, 4), generator=g)
    frames = F.one_hot(labels.repeat_interleave(3, 1), 5).float() + 0.3 * torch.randn(512, 12, 5, generator=g)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv1d(5, 32, 3, padding=1), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> Tensor:
            hidden = F.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
            return self.head(hidden).log_softmax(-1)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        batch = len(target)
        lengths = torch.full((batch,), 12), torch.full((batch,), 4)
        return F.ctc_loss(output.transpose(0, 1), target, *lengths)

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(frames, labels), loss_fn=loss_fn, optimizer=_adam(model))


class Encoder(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(40, 32, padding_idx=0)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        if not self.batch_first:
            x = x.transpose(0, 1)
        x = self.encoder(x, src_key_padding_mask=ids == 0)
        return self.head(x.mean(1 if self.batch_first else 0))


def transformer_encoder() -> Recipe:
    torch.manual_seed(0)
    model = Encoder(batch_first=True)
    return Recipe(model=model, train_loader=loader(*tokens()), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def transformer_encoder_time_first() -> Recipe:
    torch.manual_seed(0)
    model = Encoder(batch_first=False)
    return Recipe(model=model, train_loader=loader(*tokens()), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def sequence_to_sequence() -> Recipe:
    """nn.Transformer learns to say a sequence backwards, teacher-forced."""
    ids = chains(length=8) + 1

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.position = nn.Embedding(26, 32), nn.Embedding(9, 32)
            self.core = nn.Transformer(32, 2, 1, 1, 64, dropout=0.0, batch_first=True)
            self.head = nn.Linear(32, 26)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            places = torch.arange(source.shape[1])
            mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            inside = self.embed(source) + self.position(places)
            outside = self.embed(target) + self.position(places)
            return self.head(self.core(inside, outside, tgt_mask=mask, tgt_is_causal=True))

    def training_step(model: Net, batch: tuple[Tensor, Tensor]) -> Tensor:
        source, target = batch
        shifted = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], 1)
        return F.cross_entropy(model(source, shifted).transpose(1, 2), target)

    torch.manual_seed(0)
    model = Net()
    data = loader(ids, ids.flip(1))
    return Recipe(model=model, train_loader=data, training_step=training_step, optimizer=_adam(model))


class TiedLM(nn.Module):
    """Token embedding and head share one matrix, drawn with std 0.02; a bare tensor of tokens is the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(24, 32), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 24, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        inputs, target = ids[:, :-1], ids[:, 1:]
        time = inputs.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(time)
        x = self.blocks(self.embed(inputs) + self.position(torch.arange(time)), mask=mask, is_causal=True)
        logits = self.head(self.norm(x))
        return logits, F.cross_entropy(logits.flatten(0, 1), target.flatten())


def tied_language_model() -> Recipe:
    torch.manual_seed(0)
    model = TiedLM()
    return Recipe(model=model, train_loader=[(part,) for part in chains().split(32)], optimizer=_adam(model))


def mixture_of_experts() -> Recipe:
    """Each token goes to one of four experts; in any one batch an expert may get none."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.router, self.head = nn.Embedding(40, 24), nn.Linear(24, 4), nn.Linear(24, 4)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 24)) for _ in range(4)
            )

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            gate, chosen = self.router(x).softmax(-1).max(-1)
            out = torch.zeros_like(x)
            for number, expert in enumerate(self.experts):
                here = chosen == number
                if here.any():
                    out[here] = gate[here].unsqueeze(-1) * expert(x[here])
            return self.head((x + out).mean(1))

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(*tokens()), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))


def causal_convolutions() -> Recipe:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv1d(a, 24, 2, dilation=d) for a, d in ((1, 1), (24, 2), (24, 4)))
            self.head = nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(1, 2)
            for conv in self.convs:
                x = F.elu(conv(F.pad(x, (conv.dilation[0], 0))))
            return self.head(x[:, :, -1]).squeeze(1)

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(*waves()), loss_fn=nn.MSELoss(), optimizer=_adam(model))


def sinusoidal_positions_and_layer_drop() -> Recipe:
    """A fixed position table in a buffer; each layer is left out of one training pass in five."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(40, 32)
            angle = torch.arange(16)[:, None] * torch.exp(-math.log(1e4) * torch.arange(0, 32, 2) / 32)
            self.register_buffer("table", torch.cat([angle.sin(), angle.cos()], 1))
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True, norm_first=True) for _ in range(3)
            )
            self.head = nn.Linear(32, 4)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids) + self.table
            for layer in self.layers:
                if not self.training or torch.rand(()) > 0.2:
                    x = layer(x)
            return self.head(x.mean(1))

    torch.manual_seed(0)
    model = Net()
    return Recipe(model=model, train_loader=loader(*tokens()), loss_fn=nn.CrossEntropyLoss(), optimizer=_adam(model))
