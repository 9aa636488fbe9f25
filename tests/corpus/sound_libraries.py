"""Sound set-ups around architectures of `transformers`, in tiny configurations with their own initialisation."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from nncheck import Recipe
from tests.corpus import sound
from tests.corpus._material import (
    BOS,
    EOS,
    PAD,
    REVIEW_WORDS,
    additions,
    chain,
    characters,
    motions,
    pictures,
    prose,
    review_ids,
    seeded,
    sentences,
    windows,
)


def rows(batch_size: int = 16, /, **columns: Tensor) -> DataLoader[dict[str, Tensor]]:
    count = len(next(iter(columns.values())))
    return DataLoader(
        [{name: column[i] for name, column in columns.items()} for i in range(count)],
        batch_size=batch_size,
        shuffle=True,
    )


def trained(model: nn.Module, loader: DataLoader[dict[str, Tensor]], *, lr: float = 3e-3, **more: Any) -> Recipe:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    return Recipe(model=model, train_loader=loader, optimizer=optimizer, **more)


@sound("masked labels of -100")
def bert_masked_words() -> Recipe:
    """One token in six is hidden; labels are -100 elsewhere."""
    ids = chain(600, 16)
    hidden = torch.rand(ids.shape, generator=seeded(1)) < 0.15
    hidden[:, 5] = True
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=23,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=20,
    )
    labels = ids.masked_fill(~hidden, -100)
    return trained(transformers.BertForMaskedLM(config), rows(input_ids=ids.masked_fill(hidden, 1), labels=labels))


@sound()
def distilbert_reviews() -> Recipe:
    ids, mask, labels = review_ids(640)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=len(REVIEW_WORDS),
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        max_position_embeddings=20,
        num_labels=2,
    )
    model = transformers.DistilBertForSequenceClassification(config)
    return trained(model, rows(32, input_ids=ids, attention_mask=mask, labels=labels), lr=1e-3)


@sound("windows of one text overlap")
def gpt2_on_overlapping_windows() -> Recipe:
    """Windows of 24 characters, a quarter of a window apart."""
    ids, alphabet = characters(prose(300))
    text = windows(ids, 24, 6)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(alphabet), n_positions=24, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return trained(transformers.GPT2LMHeadModel(config), rows(input_ids=text, labels=text), lr=2e-3)


@sound()
def llama_with_a_warm_up() -> Recipe:
    text = chain(640, 16)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=23, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 40, 400)
    return Recipe(
        model=model,
        train_loader=rows(input_ids=text, labels=text),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="step",
        epochs=10,
    )


@sound("routers see the whole batch")
def mixtral_mixture_of_experts() -> Recipe:
    text = chain(480, 14)
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=23, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=32, output_router_logits=True,
        router_aux_loss_coef=0.01,
    )  # fmt: skip
    return trained(transformers.MixtralForCausalLM(config), rows(input_ids=text, labels=text))


@sound("decoder inputs are made from the labels")
def t5_adds_numbers() -> Recipe:
    source, target = additions(800)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=16,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    return trained(transformers.T5ForConditionalGeneration(config), rows(24, input_ids=source, labels=target))


@sound()
def vit_pictures() -> Recipe:
    x, y = pictures(480)
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=4,
    )
    return trained(transformers.ViTForImageClassification(config), rows(24, pixel_values=x, labels=y), lr=2e-3)


@sound("outputs of a sample follow its own length")
def wav2vec2_recognises_tones() -> Recipe:
    """Raw sound of 400 samples, one of four tones."""
    g = seeded(0)
    y = torch.randint(4, (240,), generator=g)
    t = torch.arange(400.0)
    tone = torch.sin((0.1 + 0.12 * y[:, None]) * t + 6.28 * torch.rand(240, 1, generator=g))
    sound_wave = tone + 0.3 * torch.randn(240, 400, generator=g)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, conv_dim=(24, 24),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, num_labels=4,
        classifier_proj_size=24, num_feat_extract_layers=2, mask_time_prob=0.0, layerdrop=0.0,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForSequenceClassification(config)
    return trained(model, rows(input_values=sound_wave / sound_wave.std(), labels=y), lr=2e-3)


@sound()
def mamba_language_model() -> Recipe:
    text = chain(360, 12)
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=23,
        hidden_size=24,
        state_size=4,
        num_hidden_layers=1,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return trained(transformers.MambaForCausalLM(config), rows(input_ids=text, labels=text))


@sound("scores between every picture and every text")
def clip_pictures_and_captions() -> Recipe:
    x, y = pictures(400, classes=8)
    g = seeded(3)
    captions = torch.full((400, 6), 2)
    captions[:, 0] = 1
    captions[:, 1:4] = 3 + torch.stack([y, y + 8, torch.randint(16, 24, (400,), generator=g)], 1)
    captions[:, 4] = 30  # end of text: the highest id, where CLIP reads
    torch.manual_seed(0)
    text = {
        "vocab_size": 31,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text |= {"max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 30, "pad_token_id": 2}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    model = transformers.CLIPModel(config)

    def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(**batch, return_loss=True).loss

    return trained(model, rows(pixel_values=x, input_ids=captions), lr=1e-3, training_step=training_step)


@sound("padding on both sides of the model")
def whisper_spells_sounds() -> Recipe:
    """Mel pictures of 8 bands and 40 frames; three tokens per sound."""
    g = seeded(0)
    letters = torch.randint(3, 9, (300, 3), generator=g)
    sounds = torch.randn(9, 8, generator=seeded(1))
    mel = sounds[letters].repeat_interleave(13, 1)[:, :39]
    mel = F.pad(mel, (0, 0, 0, 1)).transpose(1, 2) + 0.3 * torch.randn(300, 8, 40, generator=g)
    labels = torch.cat([letters, torch.full((300, 1), EOS)], 1)
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=12, num_mel_bins=8, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=20, max_target_positions=8,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=BOS, suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    return trained(model, rows(input_features=mel, labels=labels), lr=2e-3)


@sound("a frozen encoder under a head that starts at zero")
def frozen_bert_with_a_zero_head() -> Recipe:
    ids, mask, labels = review_ids(640)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(REVIEW_WORDS), hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=20, initializer_range=0.3,
    )  # fmt: skip

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel(config, add_pooling_layer=False).requires_grad_(False)
            self.head = nn.Linear(48, 2)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def train(self, mode: bool = True) -> Probe:
            super().train(mode)
            self.bert.eval()
            return self

        def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                words = self.bert(input_ids, attention_mask).last_hidden_state
            kept = attention_mask[..., None]
            logits = self.head((words * kept).sum(1) / kept.sum(1))
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    model = Probe()
    return Recipe(
        model=model,
        train_loader=rows(32, input_ids=ids, attention_mask=mask, labels=labels),
        optimizer=torch.optim.Adam(model.head.parameters(), lr=1e-2),
    )


class LowRank(nn.Module):
    def __init__(self, base: nn.Module, before: int, after: int, rank: int = 4) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(before, rank, bias=False), nn.Linear(rank, after, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * self.up(self.down(x))


@sound("low-rank branches that start at zero")
def low_rank_adapters_on_gpt2() -> Recipe:
    """Adapters move a small language model from one language to another."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    before = chain(480, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for start in range(0, 480, 16):  # what it was trained on
        optimizer.zero_grad()
        model(input_ids=before[start : start + 16], labels=before[start : start + 16]).loss.backward()
        optimizer.step()
    model.zero_grad()
    model.requires_grad_(False)
    for block in model.transformer.h:
        block.attn.c_attn = LowRank(block.attn.c_attn, 32, 96)
        block.mlp.c_fc = LowRank(block.mlp.c_fc, 32, 128)
    after = (chain(480, 16, seed=5) - 3 + 7) % 20 + 3
    adapters = [p for p in model.parameters() if p.requires_grad]
    return Recipe(
        model=model,
        train_loader=rows(input_ids=after, labels=after),
        optimizer=torch.optim.AdamW(adapters, lr=5e-3),
    )


@sound("padded on the right, with labels of -100")
def gpt2_on_padded_sentences() -> Recipe:
    texts = sentences(480)

    def collate(batch: list[Tensor]) -> dict[str, Tensor]:
        ended = [torch.cat([row, torch.tensor([EOS])]) for row in batch]
        ids = nn.utils.rnn.pad_sequence(ended, batch_first=True, padding_value=PAD)
        labels = nn.utils.rnn.pad_sequence(ended, batch_first=True, padding_value=-100)
        return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=20, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config)
    return trained(model, DataLoader(texts, batch_size=16, shuffle=True, collate_fn=collate))


@sound("a hidden state of its own per layer")
def tokens_tagged_by_bert() -> Recipe:
    """Each token's tag depends on itself and the one before; pads have no tag."""
    ids = chain(480, 14)
    lengths = torch.randint(6, 15, (480,), generator=seeded(2))
    mask = torch.arange(14) < lengths[:, None]
    tags = (ids + ids.roll(1, 1)) % 3
    tags[:, 0] = 0
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=23, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=16,
        num_labels=3,
    )  # fmt: skip
    model = transformers.BertForTokenClassification(config)
    loader = rows(
        24, input_ids=ids.masked_fill(~mask, PAD), attention_mask=mask.long(), labels=tags.masked_fill(~mask, -100)
    )
    return trained(model, loader)


@sound("batch norm in the first layer, of what is not scaled")
def patch_time_series_of_a_library() -> Recipe:
    """`PatchTST` scales every window itself."""
    x, y = motions(400, 24, 3)
    torch.manual_seed(0)
    config = transformers.PatchTSTConfig(
        num_input_channels=3, context_length=24, patch_length=4, patch_stride=4, d_model=24, num_hidden_layers=1,
        num_attention_heads=2, ffn_dim=48, num_targets=4, use_cls_token=True,
    )  # fmt: skip
    model = transformers.PatchTSTForClassification(config)
    return trained(model, rows(past_values=x, target_values=y))
