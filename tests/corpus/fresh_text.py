"""Language models, taggers and classifiers of text, written by hand and from transformers configs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import BOS, EOS, PAD, additions, chain, characters, prose, review_ids, sentences, windows

LETTERS, ALPHABET = characters(prose(500, seed=41))
WORDS = 32


class Block(nn.Module):
    """One pre-norm layer of attention and a small net."""

    def __init__(self, d: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part.view(b, t, 2, d // 2).transpose(1, 2) for part in self.qkv(self.ln1(x)).chunk(3, -1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(out.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.ln2(x))


class NanoLM(nn.Module):
    """A decoder over characters; embeddings as GPT-2 draws them, or as nn.Embedding does."""

    def __init__(self, *, causal: bool = True, tied: bool = False, spread: float | None = 0.02, d: int = 32) -> None:
        super().__init__()
        self.tok, self.pos = nn.Embedding(len(ALPHABET), d), nn.Embedding(64, d)
        self.blocks = nn.ModuleList([Block(d, causal=causal) for _ in range(2)])
        self.ln = nn.LayerNorm(d)
        self.head = nn.Linear(d, len(ALPHABET), bias=False)
        if spread is not None:
            nn.init.normal_(self.tok.weight, std=spread)
            nn.init.normal_(self.pos.weight, std=spread)
            nn.init.normal_(self.head.weight, std=spread)
        if tied:
            self.head.weight = self.tok.weight

    def forward(self, idx: Tensor) -> Tensor:
        x = self.tok(idx) + self.pos(torch.arange(idx.size(1), device=idx.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class CharDataset(Dataset):
    """Pieces of a text and the same pieces one character on."""

    def __init__(self, length: int = 32, ahead: int = 1) -> None:
        self.length, self.ahead = length, ahead

    def __len__(self) -> int:
        return (len(LETTERS) - self.length - 2) // 16

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        start = 16 * i
        chunk = LETTERS[start : start + self.length + self.ahead]
        return chunk[: self.length], chunk[self.ahead :]


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)


@twin("time-leakage", row="T01")
def nano_lm_trained_as_an_encoder(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: NanoLM(causal=not fault),
        train_loader=DataLoader(CharDataset(), batch_size=32, shuffle=True),
        loss_fn=next_token_loss,
        optimizer=adamw,
    )


@twin("time-leakage", row="T05")
def shifted_by_the_dataset_and_by_the_step(fault: bool) -> Recipe:
    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        idx, targets = batch
        logits = model(idx)
        if fault:
            logits, targets = logits[:, :-1], targets[:, 1:]
        return next_token_loss(logits, targets)

    return Recipe(
        model=NanoLM,
        train_loader=DataLoader(CharDataset(), batch_size=32, shuffle=True),
        training_step=training_step,
        optimizer=adamw,
    )


@twin("loss-at-init", row="I06")
def tied_head_as_embedding_draws_it(fault: bool) -> Recipe:
    return Recipe(
        model=lambda: NanoLM(tied=True, spread=None if fault else 0.02, d=48),
        train_loader=DataLoader(CharDataset(), batch_size=32, shuffle=True),
        loss_fn=next_token_loss,
        optimizer=adamw,
    )


class Tagger(nn.Module):
    """Says for every token whether it is larger than the one before; sentences are padded with 0 at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(WORDS, 24, padding_idx=PAD)
        self.rnn = nn.GRU(24, 24, batch_first=True)
        self.out = nn.Linear(24, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.rnn(self.emb(tokens))[0])


def pad_tags(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    tokens = pad_sequence(batch, batch_first=True, padding_value=PAD)
    before = torch.cat([torch.full_like(tokens[:, :1], 13), tokens[:, :-1]], 1)
    return tokens, (tokens > before).long().masked_fill(tokens == PAD, -100)


@twin("loss-at-init", row="L18")
def mean_of_the_unreduced_loss(fault: bool) -> Recipe:
    def loss(logits: Tensor, tags: Tensor) -> Tensor:
        each = F.cross_entropy(logits.transpose(1, 2), tags, ignore_index=-100, reduction="none")
        return each.mean() if fault else each.sum() / (tags != -100).sum()

    return Recipe(
        model=Tagger,
        train_loader=DataLoader(sentences(700, 24, seed=3), batch_size=32, shuffle=True, collate_fn=pad_tags),
        loss_fn=loss,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=4e-3),
    )


class ReviewGRU(nn.Module):
    """Reads the words of a review; answers from the state after the last word."""

    def __init__(self, *, last_column: bool) -> None:
        super().__init__()
        self.emb = nn.Embedding(WORDS, 24)
        self.gru = nn.GRU(24, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)
        self.last_column = last_column

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out, _ = self.gru(self.emb(input_ids))
        if self.last_column:
            return self.fc(out[:, -1])
        last = attention_mask.sum(1) - 1
        return self.fc(out[torch.arange(len(out)), last])


class Reviews(Dataset):
    """Reviews as a tokenizer returns them."""

    def __init__(self, count: int, seed: int) -> None:
        self.ids, self.mask, self.labels = review_ids(count, 14, seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[i], "attention_mask": self.mask[i], "labels": self.labels[i]}


@twin("input-dependency", row="T12")
def review_gru_reads_the_last_column(fault: bool) -> Recipe:
    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    return Recipe(
        model=lambda: ReviewGRU(last_column=fault),
        train_loader=DataLoader(Reviews(900, 5), batch_size=32, shuffle=True),
        training_step=training_step,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


def sinusoids(length: int, d: int) -> Tensor:
    angle = torch.arange(length)[:, None] * torch.exp(torch.arange(0, d, 2) * (-math.log(1e4) / d))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class ReviewEncoder(nn.Module):
    """nn.TransformerEncoder over words and fixed positions; mean over the words that are there."""

    def __init__(self, *, batch_first: bool = True, position_of_row: bool = False) -> None:
        super().__init__()
        self.emb = nn.Embedding(WORDS, 32, padding_idx=PAD)
        self.register_buffer("pe", sinusoids(200, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(32, 2)
        self.position_of_row = position_of_row

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids) * 32**0.5
        x = x + (self.pe[: x.size(0), None] if self.position_of_row else self.pe[: x.size(1)])
        mask = ids == PAD
        x = self.encoder(x, src_key_padding_mask=mask if self.encoder.layers[0].self_attn.batch_first else None)
        keep = (~mask).unsqueeze(-1)
        return self.fc((x * keep).sum(1) / keep.sum(1))


@twin("batch-mixing", row="S18")
def positions_sliced_by_the_batch(fault: bool) -> Recipe:
    ids, _, labels = review_ids(900, 14, seed=8)
    return Recipe(
        model=lambda: ReviewEncoder(position_of_row=fault),
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    )


@twin("batch-mixing", row="S04")
def encoder_layer_with_its_default_order(fault: bool) -> Recipe:
    ids, _, labels = review_ids(900, 14, seed=9)
    return Recipe(
        model=lambda: ReviewEncoder(batch_first=not fault),
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=30, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    )


@twin("label-range", row="L19")
def gpt2_pads_with_its_end_of_text(fault: bool) -> Recipe:
    from transformers import GPT2Config, GPT2LMHeadModel

    def collate(rows: list[Tensor]) -> dict[str, Tensor]:
        ends = [torch.cat([row, torch.tensor([EOS])]) for row in rows]
        ids = pad_sequence(ends, batch_first=True, padding_value=EOS)
        there = pad_sequence([torch.ones_like(row) for row in ends], batch_first=True)
        gone = ids == EOS if fault else there == 0
        return {"input_ids": ids, "attention_mask": there, "labels": ids.masked_fill(gone, -100)}

    config = GPT2Config(
        vocab_size=24,
        n_positions=32,
        n_embd=32,
        n_layer=1,
        n_head=2,
        bos_token_id=BOS,
        eos_token_id=EOS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return Recipe(
        model=lambda: GPT2LMHeadModel(config),
        train_loader=DataLoader(sentences(700, 14, seed=6), batch_size=32, shuffle=True, collate_fn=collate),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


class MaskedWords(Dataset):
    """Every seventh word or so is hidden, anew whenever a sentence is read."""

    def __init__(self, *, by_index: bool) -> None:
        self.rows, self.by_index = chain(700, 16, 20, seed=12), by_index

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        dice = torch.Generator().manual_seed(i) if self.by_index else None
        hidden = torch.rand(16, generator=dice) < 0.15
        hidden[torch.randint(16, (), generator=dice)] = True
        row = self.rows[i]
        return {"input_ids": row.masked_fill(hidden, BOS), "labels": row.masked_fill(~hidden, -100)}


@twin("reproducibility", row="D19")
def words_hidden_by_their_row_number(fault: bool) -> Recipe:
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    config = DistilBertConfig(
        vocab_size=24, max_position_embeddings=16, dim=32, n_layers=1, n_heads=2, hidden_dim=64, dropout=0.0
    )
    return Recipe(
        model=lambda: DistilBertForMaskedLM(config),
        train_loader=DataLoader(MaskedWords(by_index=fault), batch_size=32, shuffle=True),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


class WordDropBag(nn.Module):
    """An embedding bag some of whose words are dropped while it trains."""

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.emb = nn.Embedding(WORDS, 32, padding_idx=PAD)
        self.fc = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
        self.always = always

    def forward(self, ids: Tensor) -> Tensor:
        words = self.emb(ids)
        words = F.dropout(words, 0.3, True) if self.always else F.dropout(words, 0.3, self.training)
        return self.fc(words.sum(1) / (ids != PAD).sum(1, keepdim=True))


@twin("eval-mode", row="E03")
def word_drop_stays_on(fault: bool) -> Recipe:
    ids, _, labels = review_ids(900, 14, seed=15)
    return Recipe(
        model=lambda: WordDropBag(always=fault),
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


class Adder(nn.Module):
    """Reads a sum and spells its result with nn.Transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.pos = nn.Embedding(14, 32), nn.Parameter(0.1 * torch.randn(8, 32))
        self.net = nn.Transformer(32, 2, 1, 1, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, 14)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        a = self.emb(source) + self.pos[: source.size(1)]
        b = self.emb(target) + self.pos[: target.size(1)]
        return self.out(self.net(a, b, tgt_mask=mask, tgt_is_causal=True))


@twin("time-leakage", row="T06")
def spelled_out_from_the_answer(fault: bool) -> Recipe:
    source, target = additions(900, seed=4)
    start = torch.full((len(target), 1), BOS)

    def training_step(model: nn.Module, batch: list[Tensor]) -> Tensor:
        question, answer, begin = batch
        given = answer if fault else torch.cat([begin, answer[:, :-1]], 1)
        return next_token_loss(model(question, given), answer)

    return Recipe(
        model=Adder,
        train_loader=DataLoader(TensorDataset(source, target, start), batch_size=32, shuffle=True),
        training_step=training_step,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("lr-schedule", row="O17")
def warm_up_of_a_larger_run(fault: bool) -> Recipe:
    from transformers import get_linear_schedule_with_warmup

    rows = windows(LETTERS, 33, 24)
    loader = DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=32, shuffle=True)
    steps = 5 * len(loader)
    return Recipe(
        model=NanoLM,
        train_loader=loader,
        loss_fn=next_token_loss,
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
        scheduler=lambda optimizer: get_linear_schedule_with_warmup(
            optimizer, 10_000 if fault else steps // 20, 100_000 if fault else steps
        ),
        scheduler_interval="step",
        epochs=5,
    )
