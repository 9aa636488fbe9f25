# twin: char_lm.py
# fault: the mask lets each position see the next letter, which it is to predict
# expect: time-leakage
"""A character language model (a two-block transformer) on the text of Python's own language reference."""

from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)

text = "\n".join(topics[name] for name in ("for", "class", "compound", "import", "lambda", "naming", "strings"))
alphabet = sorted(set(text))
index = {character: i for i, character in enumerate(alphabet)}
data = torch.tensor([index[character] for character in text])


class Windows(Dataset):
    def __init__(self, tokens, length=32):
        self.tokens, self.length = tokens, length

    def __len__(self):
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, i):
        start = i * self.length
        chunk = self.tokens[start : start + self.length + 1]
        return chunk[:-1], chunk[1:]


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.normal_(self.qkv.weight, std=width**-0.5)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
        future = torch.ones(time, time, dtype=torch.bool).triu(2)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, time, width)
        return self.proj(mixed)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CharTransformer(nn.Module):
    def __init__(self, vocabulary, width=64, heads=2, length=32):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens, targets=None):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.blocks(self.token(tokens) + self.position(positions))
        logits = self.head(self.norm(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


train_loader = DataLoader(Windows(data), batch_size=32, shuffle=True)
model = CharTransformer(len(alphabet))
# Most frequent characters first: the head starts at the unigram distribution instead of learning it.
counts = torch.bincount(data, minlength=len(alphabet)).float()
nn.init.normal_(model.head.weight, std=0.02)
model.head.bias.data = (counts / counts.sum()).log()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def main(epochs=3):
    for epoch in range(epochs):
        for tokens, targets in train_loader:
            optimizer.zero_grad(set_to_none=True)
            _, loss = model(tokens, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
