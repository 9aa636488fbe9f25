# twin: digits_loop.py
# fault: gradients are clipped after the step that was to use them
# expect: gradient-clipping
"""Digits with a training step of its own: two small batches for one update, gradients clipped."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

data = load_digits()
pixels = torch.tensor(data.data, dtype=torch.float32) / 8 - 1
labels = torch.tensor(data.target)
train_loader = DataLoader(TensorDataset(pixels[:1500], labels[:1500]), batch_size=50, shuffle=True)
val_loader = DataLoader(TensorDataset(pixels[1500:], labels[1500:]), batch_size=297)

ACCUMULATED = 2

net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def train_step(net, batch, batch_idx):
    x, y = batch
    loss = criterion(net(x), y)
    (loss / ACCUMULATED).backward()
    if (batch_idx + 1) % ACCUMULATED == 0:
        optimizer.step()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.zero_grad()
    return loss.item()


def main(epochs=5):
    for epoch in range(epochs):
        for index, batch in enumerate(train_loader):
            loss = train_step(net, batch, index)
        print(f"epoch {epoch}: loss {loss:.3f}")


if __name__ == "__main__":
    main()
