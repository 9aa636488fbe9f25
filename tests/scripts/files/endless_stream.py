#!/usr/bin/env python3
# Classify an endless stream of noisy waveforms: sine, square, saw, chirp.
# There are no epochs, only steps.
import itertools
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

# ------------------------------------------------------------------ config
seed = 1337
batch_size = 32
max_steps = 150
eval_interval = 50
eval_batches = 8
log_interval = 25
learning_rate = 2e-3
warmup_steps = 10
length = 64
classes = 4
# --------------------------------------------------------------------------
torch.manual_seed(seed)


def waveform(rng):
    kind = int(rng.integers(classes))
    t = np.arange(length) / length
    f, phase = rng.uniform(2, 5), rng.uniform(0, 1)
    cycle = (f * t + phase) % 1.0
    if kind == 0:
        y = np.sqrt(2) * np.sin(2 * np.pi * cycle)
    elif kind == 1:
        y = np.where(cycle < 0.5, 1.0, -1.0)
    elif kind == 2:
        y = np.sqrt(3) * (2 * cycle - 1)
    else:
        y = np.sqrt(2) * np.sin(2 * np.pi * (f * t * (1 + 2 * t) + phase))
    y = y + rng.normal(0, 0.2, length)
    return y.astype(np.float32)[None], kind


class Waveforms(IterableDataset):
    def __init__(self, seed):
        self.seed = seed

    def __iter__(self):
        rng = np.random.default_rng(self.seed)
        while True:
            yield waveform(rng)


class WaveNetlet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.conv1 = nn.Conv1d(1, width, 7, padding=3)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2)
        self.norm2 = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool1d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.head(self.drop(x.mean(-1)))


train_data = DataLoader(Waveforms(seed), batch_size=batch_size)
valid_data = DataLoader(Waveforms(seed + 1), batch_size=batch_size)

model = WaveNetlet()
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / warmup_steps))
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")


@torch.no_grad()
def estimate():
    model.eval()
    right = total = 0
    for x, y in itertools.islice(valid_data, eval_batches):
        right += (model(x).argmax(dim=1) == y).sum().item()
        total += y.numel()
    model.train()
    return right / total


it = iter(train_data)
running = None
t0 = time.time()
for step in range(max_steps):
    x, y = next(it)
    logits = model(x)
    loss = F.cross_entropy(logits, y)

    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()

    value = loss.item()
    running = value if running is None else 0.9 * running + 0.1 * value
    if step % log_interval == 0:
        print(f"step {step:4d}  loss {value:.4f}  running {running:.4f}  {(time.time() - t0) * 1000:.0f} ms")
    if (step + 1) % eval_interval == 0:
        print(f"step {step + 1:4d}  held out accuracy {estimate():.3f}")
