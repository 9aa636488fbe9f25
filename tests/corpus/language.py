"""Language models and text classifiers: masks, shifts, padding, positions."""

from __future__ import annotations

import math
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nncheck import Recipe
from tests.corpus import twin
from tests.corpus._material import (
    BOS,
    EOS,
    PAD,
    REVIEW_WORDS,
    additions,
    chain,
    characters,
    prose,
    review_ids,
    reviews,
    seeded,
    sentences,
    windows,
)


class Attention(nn.Module):
    """Causal self-attention written out; `ahead` is the diagonal of the mask, `over` the axis of the softmax."""

    def __init__(self, width: int, heads: int, *, ahead: int = 0, over: int = -1, scaled: bool = True) -> None:
        super().__init__()
        self.heads, self.ahead, self.over, self.scaled = heads, ahead, over, scaled
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1)
        if self.scaled:
            scores = scores / math.sqrt(d // self.heads)
        allowed = torch.ones(t, t, device=x.device).tril(self.ahead).bool()
        scores = scores.masked_fill(~allowed, float("-inf"))
        return self.out((scores.softmax(self.over) @ v).transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.ln1, self.ln2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), attention
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class CharGPT(nn.Module):
    def __init__(self, vocabulary: int, attentions: list[nn.Module], *, width: int = 32, length: int = 24) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, attention) for attention in attentions))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        self.apply(self.start)

    def start(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.place(torch.arange(ids.size(1), device=ids.device))
        return self.head(self.norm(self.blocks(x)))


def next_character(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def character_data(length: int = 24) -> tuple[TensorDataset, int]:
    ids, alphabet = characters(prose())
    rows = windows(ids, length + 1, 12)
    return TensorDataset(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()), len(alphabet)


def character_model(attentions: list[nn.Module], **options: Any) -> Recipe:
    data, vocabulary = character_data()
    model = CharGPT(vocabulary, attentions, **options)
    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=16, shuffle=True),
        loss_fn=next_character,
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


@twin("time-leakage", row="T01")
def char_gpt_sees_all(fault: bool) -> Recipe:
    """The mask is built with the whole length as its diagonal."""
    torch.manual_seed(0)
    return character_model([Attention(32, 2, ahead=24 if fault else 0) for _ in range(2)])


@twin("time-leakage", row="T02")
def char_gpt_sees_next(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return character_model([Attention(32, 4, ahead=1 if fault else 0)])


@twin("time-leakage", "saturation", row="T15")
def char_gpt_softmax_over_queries(fault: bool) -> Recipe:
    torch.manual_seed(1)
    return character_model([Attention(32, 2, over=-2 if fault else -1) for _ in range(2)])


@twin("saturation", row="I18")
def char_gpt_unscaled_scores(fault: bool) -> Recipe:
    """Queries and keys of unit size: 64 products are summed and never divided by 8."""
    torch.manual_seed(0)
    recipe = character_model([Attention(64, 1, scaled=not fault)], width=64)
    nn.init.normal_(recipe.model.blocks[0].attention.qkv.weight, std=64**-0.5)
    return recipe


class FusedAttention(nn.Module):
    """The same by `scaled_dot_product_attention`, whose boolean mask says what may be seen."""

    def __init__(self, width: int, mask: Tensor) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        t = x.size(1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask[:t, :t]).squeeze(1)


@twin("time-leakage", "input-dependency", "finite-values", row="T03")
def fused_mask_upside_down(fault: bool) -> Recipe:
    """A mask made for `nn.MultiheadAttention` (True: hidden) given to the fused kernel (True: seen)."""
    torch.manual_seed(0)
    hidden = torch.ones(24, 24).triu(1).bool()
    return character_model([FusedAttention(32, hidden if fault else ~hidden) for _ in range(2)])


@twin("time-leakage", row="T04")
def char_rnn_labels_not_shifted(fault: bool) -> Recipe:
    class CharRNN(nn.Module):
        def __init__(self, vocabulary: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 24)
            self.rnn = nn.GRU(24, 48, batch_first=True)
            self.head = nn.Linear(48, vocabulary)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(ids))[0])

    class Text(Dataset[tuple[Tensor, Tensor]]):
        def __init__(self, text: str, length: int) -> None:
            self.ids, self.alphabet = characters(text)
            self.length = length

        def __len__(self) -> int:
            return (len(self.ids) - 1) // self.length

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            start = i * self.length
            shift = 0 if fault else 1
            return self.ids[start : start + self.length], self.ids[start + shift : start + shift + self.length]

    torch.manual_seed(0)
    data = Text(prose(), 20)
    model = CharRNN(len(data.alphabet))

    def training_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x).transpose(1, 2), y)

    return Recipe(
        model=model,
        train_loader=DataLoader(data, batch_size=16, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        training_step=training_step,
    )


def dictionaries(loader_size: int = 16, /, **columns: Tensor) -> DataLoader[dict[str, Tensor]]:
    count = len(next(iter(columns.values())))
    items = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    return DataLoader(items, batch_size=loader_size, shuffle=True)


def tiny_gpt2(vocabulary: int, **options: Any) -> transformers.GPT2LMHeadModel:
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=BOS,
        eos_token_id=EOS,
        **options,
    )
    return transformers.GPT2LMHeadModel(config)


@twin("time-leakage", row="T05")
def gpt2_labels_shifted_twice(fault: bool) -> Recipe:
    """The library shifts labels itself."""
    torch.manual_seed(0)
    rows = chain(640, 17)
    model = tiny_gpt2(23)
    labels = rows[:, 1:] if fault else rows[:, :-1]
    loader = dictionaries(input_ids=rows[:, :-1].contiguous(), labels=labels.contiguous())
    return Recipe(model=model, train_loader=loader, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3))


class Translator(nn.Module):
    """`nn.Transformer` as in the tutorial, for sums of two numbers."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(14, width), nn.Parameter(0.02 * torch.randn(1, 8, width))
        self.body = nn.Transformer(width, 2, 1, 1, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, 14)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        s = self.embed(source) + self.place[:, : source.size(1)]
        t = self.embed(target) + self.place[:, : target.size(1)]
        return self.head(self.body(s, t, tgt_mask=mask, tgt_is_causal=True))


@twin("time-leakage", row="T06")
def translator_fed_its_answer(fault: bool) -> Recipe:
    """The decoder's input is the target itself, without a start token in front."""
    torch.manual_seed(0)
    model = Translator()
    source, target = additions()

    def compute_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        src, tgt = batch
        shifted = F.pad(tgt[:, :-1], (1, 0), value=BOS)
        logits = model(src, tgt if fault else shifted)
        return F.cross_entropy(logits.transpose(1, 2), tgt)

    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(source, target), batch_size=32, shuffle=True),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        training_step=compute_loss,
    )


@twin("time-leakage", "input-baseline", "input-dependency", row="T10")
def which_came_first(fault: bool) -> Recipe:
    """Which of two marks comes first: a matter of order only, and the encoder has no positions."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(12, 32)
            self.place = nn.Embedding(10, 32)
            layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            x = x + self.place(torch.zeros_like(ids) if fault else torch.arange(ids.size(1)).expand_as(ids))
            return self.head(self.body(x).mean(1))

    g = seeded(0)
    ids = torch.randint(2, 12, (800, 10), generator=g)
    spots = torch.rand(800, 10, generator=g).argsort(1)[:, :2]
    ids.scatter_(1, spots[:, :1], 0).scatter_(1, spots[:, 1:], 1)
    torch.manual_seed(0)
    model = Encoder()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(ids, (spots[:, 0] < spots[:, 1]).long()), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )


@twin("time-leakage", row="T13")
def lstm_language_model_both_ways(fault: bool) -> Recipe:
    class WordModel(nn.Module):
        def __init__(self, vocabulary: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, 32)
            self.lstm = nn.LSTM(32, 32, batch_first=True, bidirectional=fault)
            self.head = nn.Linear(64 if fault else 32, vocabulary)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.lstm(self.embed(ids))[0])

    torch.manual_seed(0)
    rows = chain(700, 17)
    model = WordModel(23)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=20, shuffle=True),
        loss_fn=lambda logits, y: F.cross_entropy(logits.reshape(-1, 23), y.reshape(-1)),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
    )


@twin("forward-pass", "label-range", row="T17")
def embedding_smaller_than_tokenizer(fault: bool) -> Recipe:
    """The tokenizer got special tokens after the model was configured."""
    torch.manual_seed(0)
    rows = chain(500, 16)
    model = tiny_gpt2(20 if fault else 23)
    return Recipe(
        model=model,
        train_loader=dictionaries(input_ids=rows, labels=rows),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class BagOfWords(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32, padding_idx=PAD)
        self.body = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, ids: Tensor) -> Tensor:
        kept = (ids != PAD).unsqueeze(-1)
        return self.body((self.embed(ids) * kept).sum(1) / kept.sum(1).clamp(min=1))


@twin("label-range", "input-preview", "data-scale", "input-baseline", row="T17")
def words_mostly_unknown(fault: bool) -> Recipe:
    """The vocabulary was built from lower-case words; the texts arrive in capitals, so that most words are `<unk>`."""
    index = {word: i for i, word in enumerate(REVIEW_WORDS)}
    texts = reviews(700)

    def encode(words: list[str]) -> list[int]:
        known = [index.get(word.capitalize() if fault and i % 8 else word, 1) for i, word in enumerate(words)]
        return known + [PAD] * (14 - len(known))

    torch.manual_seed(0)
    ids = torch.tensor([encode(words) for words, _ in texts])
    labels = torch.tensor([label for _, label in texts])
    model = BagOfWords(len(REVIEW_WORDS))
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("loss-at-init", row="I06")
def tied_embedding_of_unit_size(fault: bool) -> Recipe:
    class TiedLM(nn.Module):
        def __init__(self, vocabulary: int, width: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width)
            if not fault:
                nn.init.normal_(self.embed.weight, std=0.02)
            self.rnn = nn.GRU(width, width, batch_first=True)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.norm(self.rnn(self.embed(ids))[0]))

    torch.manual_seed(0)
    rows = chain(700, 17, 40)
    model = TiedLM(43, 64)
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=16, shuffle=True),
        loss_fn=lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


def pad_sentences(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and next tokens, padded to the longest; every sentence starts with BOS and ends with EOS."""
    longest = max(len(row) for row in batch) + 2
    rows = torch.full((len(batch), longest), PAD)
    for i, row in enumerate(batch):
        rows[i, : len(row) + 2] = torch.cat([torch.tensor([BOS]), row, torch.tensor([EOS])])
    return rows[:, :-1], rows[:, 1:]


class SentenceModel(nn.Module):
    def __init__(self, vocabulary: int = 23) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32, padding_idx=PAD)
        self.rnn = nn.LSTM(32, 48, batch_first=True)
        self.head = nn.Linear(48, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(ids))[0])


@twin("loss-at-init", row="L18")
def padding_counted_in_mean(fault: bool) -> Recipe:
    """Ignored tokens add nothing to the sum and are counted in the mean."""

    def criterion(logits: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=PAD, reduction="none")
        return each.mean() if fault else each.sum() / (targets != PAD).sum()

    def long_tailed(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        inputs, targets = pad_sentences(batch)
        more = 40 - inputs.size(1)  # always padded to the model's 40 places
        return F.pad(inputs, (0, more), value=PAD), F.pad(targets, (0, more), value=PAD)

    torch.manual_seed(0)
    model = SentenceModel()
    return Recipe(
        model=model,
        train_loader=DataLoader(sentences(500), batch_size=16, shuffle=True, collate_fn=long_tailed),
        loss_fn=criterion,
        optimizer=torch.optim.Adam(model.parameters(), lr=4e-3),
    )


@twin("label-range", row="L19")
def end_of_sentence_never_taught(fault: bool) -> Recipe:
    """`pad_token = eos_token`, and every label that equals it becomes -100."""
    torch.manual_seed(0)
    rows = sentences(500)

    def collate(batch: list[Tensor]) -> dict[str, Tensor]:
        pad = EOS if fault else PAD
        longest = max(len(row) for row in batch) + 1
        ids = torch.full((len(batch), longest), pad)
        for i, row in enumerate(batch):
            ids[i, : len(row)] = row
            ids[i, len(row)] = EOS
        lengths = torch.tensor([len(row) + 1 for row in batch])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(ids == pad, -100)}

    model = tiny_gpt2(23, pad_token_id=PAD)
    return Recipe(
        model=model,
        train_loader=DataLoader(rows, batch_size=16, shuffle=True, collate_fn=collate),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
    )


@twin("label-range", row="L19")
def pad_is_a_tag(fault: bool) -> Recipe:
    """Tags are padded with 0, which is the tag of every second word."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(23, 32, padding_idx=PAD)
            self.rnn = nn.GRU(32, 48, batch_first=True)
            self.head = nn.Linear(48, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(ids))[0]).transpose(1, 2)

    absent = 0 if fault else -100

    def collate(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        ids = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=PAD)
        tags = [F.pad((row[:-1] + row[1:]) % 4, (1, 0), value=3) for row in batch]
        return ids, nn.utils.rnn.pad_sequence(tags, batch_first=True, padding_value=absent)

    torch.manual_seed(0)
    model = Tagger()
    return Recipe(
        model=model,
        train_loader=DataLoader(sentences(600), batch_size=24, shuffle=True, collate_fn=collate),
        loss_fn=nn.CrossEntropyLoss(ignore_index=absent),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3),
    )


@twin("finite-values", "label-range", row="L20")
def answers_cut_off(fault: bool) -> Recipe:
    """Prompts are hidden from the loss; cut to 12 tokens, the long ones leave no answer."""
    torch.manual_seed(0)
    prompts = sentences(480, 14, seed=3)

    def item(row: Tensor) -> dict[str, Tensor]:
        answer = torch.cat([row[-3:].flip(0), torch.tensor([EOS])])
        ids = torch.cat([row, answer])
        labels = torch.cat([torch.full_like(row, -100), answer])
        length = 12 if fault else 18
        room = length - len(ids)
        mask = torch.ones_like(ids)
        if room < 0:
            return {"input_ids": ids[:length], "attention_mask": mask[:length], "labels": labels[:length]}
        return {
            "input_ids": F.pad(ids, (0, room), value=PAD),
            "attention_mask": F.pad(mask, (0, room)),
            "labels": F.pad(labels, (0, room), value=-100),
        }

    model = tiny_gpt2(23, pad_token_id=PAD)
    return Recipe(
        model=model,
        train_loader=DataLoader([item(row) for row in prompts], batch_size=2, shuffle=True),
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
    )


@twin("eval-mode", row="E03")
def functional_dropout_always_on(fault: bool) -> Recipe:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(REVIEW_WORDS), 32)
            self.rnn = nn.GRU(32, 32, batch_first=True)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            lengths = (ids != PAD).sum(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
            h = self.rnn(packed)[1][-1]
            h = F.dropout(h, 0.3) if fault else F.dropout(h, 0.3, training=self.training)
            return self.head(h)

    torch.manual_seed(0)
    ids, _, labels = review_ids()
    model = Classifier()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("eval-mode", "overfit-batch", row="E06")
def dropout_as_keep_probability(fault: bool) -> Recipe:
    """0.9 was the share to keep in the paper's code."""
    torch.manual_seed(0)
    ids, mask, labels = review_ids(600)
    drop = 0.9 if fault else 0.1
    config = transformers.BertConfig(
        vocab_size=len(REVIEW_WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, hidden_dropout_prob=drop, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    return Recipe(
        model=model,
        train_loader=dictionaries(32, input_ids=ids, attention_mask=mask, labels=labels),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


class MeanPooled(nn.Module):
    """A transformer encoder over padded reviews whose mask and pooling can be told apart."""

    def __init__(self, *, masked: bool, pooled: bool = True) -> None:
        super().__init__()
        self.masked, self.pooled = masked, pooled
        self.embed = nn.Embedding(len(REVIEW_WORDS), 32)
        self.place = nn.Parameter(0.02 * torch.randn(20, 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = ids == PAD
        x = self.embed(ids) + self.place[: ids.size(1)]
        x = self.body(x, src_key_padding_mask=hidden if self.masked else None)
        if not self.pooled:
            return self.head(x.mean(1))
        kept = (~hidden).unsqueeze(-1).float()
        return self.head((x * kept).sum(1) / kept.sum(1))


def review_recipe(model: nn.Module) -> Recipe:
    def collate(batch: list[tuple[list[str], int]]) -> tuple[Tensor, Tensor]:
        longest = max(len(words) for words, _ in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for i, (words, _) in enumerate(batch):
            ids[i, : len(words)] = torch.tensor([REVIEW_WORDS.index(word) for word in words])
        return ids, torch.tensor([label for _, label in batch])

    return Recipe(
        model=model,
        train_loader=DataLoader(reviews(700), batch_size=32, shuffle=True, collate_fn=collate),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3),
    )


@twin("input-dependency", row="T07")
def attention_over_padding(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return review_recipe(MeanPooled(masked=not fault))


@twin("input-dependency", row="D28")
def mean_over_padding(fault: bool) -> Recipe:
    torch.manual_seed(0)
    return review_recipe(MeanPooled(masked=True, pooled=not fault))


@twin("input-dependency", row="T12")
def answer_at_last_padded_step(fault: bool) -> Recipe:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(REVIEW_WORDS), 32, padding_idx=PAD)
            self.rnn = nn.LSTM(32, 32, batch_first=True)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            steps = self.rnn(self.embed(ids))[0]
            if fault:
                return self.head(steps[:, -1])
            last = (ids != PAD).sum(1) - 1
            return self.head(steps[torch.arange(len(ids)), last])

    torch.manual_seed(0)
    return review_recipe(Reader())


@twin("input-dependency", row="T07")
def bert_without_attention_mask(fault: bool) -> Recipe:
    """The collate function forgets the mask, so the library takes pads for words."""
    torch.manual_seed(0)
    ids, mask, labels = review_ids(600)
    config = transformers.BertConfig(
        vocab_size=len(REVIEW_WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    columns = (
        {"input_ids": ids, "labels": labels} if fault else {"input_ids": ids, "attention_mask": mask, "labels": labels}
    )
    return Recipe(
        model=model, train_loader=dictionaries(24, **columns), optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3)
    )


@twin("input-dependency", "finite-values", row="T03")
def padding_mask_upside_down(fault: bool) -> Recipe:
    """`MultiheadAttention` hides where the mask is True; here it is True for the words."""

    class Pooler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(len(REVIEW_WORDS), 32)
            self.query = nn.Parameter(0.1 * torch.randn(1, 1, 32))
            self.attend = nn.MultiheadAttention(32, 2, batch_first=True)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            words = ids != PAD
            x = self.embed(ids)
            mask = words if fault else ~words
            pooled, _ = self.attend(self.query.expand(len(ids), 1, -1), x, x, key_padding_mask=mask, need_weights=False)
            return self.head(pooled.squeeze(1))

    torch.manual_seed(0)
    ids, _, labels = review_ids(700, 18)
    model = Pooler()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("finite-values", row="T09")
def a_row_with_nothing_to_see(fault: bool) -> Recipe:
    """Empty notes are kept: every key of their rows is masked."""

    class Notes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.score = nn.Embedding(len(REVIEW_WORDS), 32), nn.Linear(32, 1)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            scores = self.score(torch.tanh(x)).squeeze(-1).masked_fill(ids == PAD, float("-inf"))
            return self.head((scores.softmax(-1).unsqueeze(-1) * x).sum(1))

    torch.manual_seed(0)
    ids, _, labels = review_ids(640)
    if fault:
        ids[torch.randperm(640, generator=seeded(4))[:60]] = PAD
    model = Notes()
    return Recipe(
        model=model,
        train_loader=DataLoader(TensorDataset(ids, labels), batch_size=32, shuffle=True),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
    )


@twin("time-leakage", row="T01")
def llama_called_as_an_encoder(fault: bool) -> Recipe:
    """A full attention mask of zeros is given to the decoder: nothing is hidden any more."""
    torch.manual_seed(0)
    rows = chain(480, 16)
    config = transformers.LlamaConfig(
        vocab_size=23, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        ids = batch["input_ids"]
        seen = torch.zeros(len(ids), 1, ids.size(1), ids.size(1))
        mask = seen if fault else seen + torch.full((ids.size(1), ids.size(1)), float("-inf")).triu(1)
        return model(input_ids=ids, attention_mask=mask, labels=ids).loss

    return Recipe(
        model=model,
        train_loader=dictionaries(input_ids=rows),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3),
        training_step=training_step,
    )
