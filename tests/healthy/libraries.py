"""Models of libraries, randomly initialised, as their users feed them."""

import lightning
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from nncheck import Recipe
from tests.healthy.data import chains, generator, images, tokens, vectors


def _recipe(model: nn.Module, batches: dict[str, Tensor], *, lr: float = 3e-3, batch_size: int = 16) -> Recipe:
    count = len(next(iter(batches.values())))
    items = [{name: value[i] for name, value in batches.items()} for i in range(count)]
    data = DataLoader(items, batch_size=batch_size, shuffle=True)
    return Recipe(model=model, train_loader=data, optimizer=torch.optim.AdamW(model.parameters(), lr=lr))


def bert_classifier() -> Recipe:
    ids, y = tokens()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, num_labels=4,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    return _recipe(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": y})


def bert_masked_language_model() -> Recipe:
    """One token in seven is masked; the other labels are -100."""
    ids = chains() + 2
    hidden = torch.rand(ids.shape, generator=generator(1)) < 0.15
    hidden[:, 3] = True
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=26, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config)
    return _recipe(model, {"input_ids": ids.masked_fill(hidden, 1), "labels": ids.masked_fill(~hidden, -100)})


def gpt2_language_model() -> Recipe:
    ids = chains()
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=24, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    return _recipe(transformers.GPT2LMHeadModel(config), {"input_ids": ids, "labels": ids})


def llama_language_model() -> Recipe:
    ids = chains()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    return _recipe(transformers.LlamaForCausalLM(config), {"input_ids": ids, "labels": ids})


def t5_reverses() -> Recipe:
    ids = chains(length=8) + 2
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=26, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return _recipe(transformers.T5ForConditionalGeneration(config), {"input_ids": ids, "labels": ids.flip(1)})


def vit_classifier() -> Recipe:
    x, y = images()
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4,
        num_labels=4,
    )  # fmt: skip
    return _recipe(transformers.ViTForImageClassification(config), {"pixel_values": x, "labels": y})


class LitClassifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 4))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train/loss", loss, prog_bar=True)
        return {"loss": loss}

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[object]]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)]

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(torch.utils.data.TensorDataset(*vectors()), batch_size=32, shuffle=True)


def lightning_module() -> Recipe:
    torch.manual_seed(0)
    return Recipe(model=LitClassifier())
