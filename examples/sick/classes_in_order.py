# twin: digits_noisy.py
# fault: the classes come one after the other, and nothing shuffles them
# expect: shuffle
"""Digits in two parts, each sorted by class as folders are, with noise drawn for every item."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(0)

data = load_digits()
pixels = torch.tensor(data.data, dtype=torch.float32) / 8 - 1
labels = torch.tensor(data.target)


class Noisy(Dataset):
    """The parts one after the other, and in each the zeros, the ones, and so on."""

    def __init__(self, *parts):
        self.places = [i for part in parts for digit in range(10) for i in part if labels[i] == digit]
        self.random = np.random.default_rng(0)

    def __len__(self):
        return len(self.places)

    def __getitem__(self, i):
        noise = torch.from_numpy(self.random.normal(0, 0.1, 64).astype("float32"))
        return pixels[self.places[i]] + noise, labels[self.places[i]]


first, second = range(1000), range(1000, 1500)
train_loader = DataLoader(Noisy(first, second), batch_size=50)
val_loader = DataLoader(TensorDataset(pixels[1500:], labels[1500:]), batch_size=297)

model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def main(epochs=5):
    for epoch in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
