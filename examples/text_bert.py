"""Which chapter of Python's reference is this line from? A tiny BERT (Hugging Face, random weights) on dict batches."""

from pydoc_data.topics import topics

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertForSequenceClassification

torch.manual_seed(0)

CHAPTERS = ("formatstrings", "specialnames", "typesseq", "import")
LENGTH = 32


class Lines(Dataset):
    def __init__(self):
        self.items = []
        for label, chapter in enumerate(CHAPTERS):
            text = topics[chapter].encode("ascii", "replace")
            pieces = [text[i : i + LENGTH] for i in range(0, min(len(text), 20_000), LENGTH)]
            self.items += [(piece, label) for piece in pieces if len(piece) > LENGTH // 2]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(items):
    tokens = torch.zeros(len(items), LENGTH, dtype=torch.long)
    mask = torch.zeros(len(items), LENGTH, dtype=torch.long)
    for row, (piece, _) in enumerate(items):
        tokens[row, : len(piece)] = torch.tensor(list(piece))
        mask[row, : len(piece)] = 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([label for _, label in items])}


config = BertConfig(
    vocab_size=128, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
    max_position_embeddings=LENGTH, num_labels=len(CHAPTERS),
)  # fmt: skip
model = BertForSequenceClassification(config)
train_dataloader = DataLoader(Lines(), batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def main(epochs=3):
    for epoch in range(epochs):
        for batch in train_dataloader:
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
