# twin: digits_random_features.py
# fault: an augmentation shuffles the pixels of each image, anew in each step
# expect: simple-baseline
"""Digits with random features: directions that are drawn once and never learned, then a layer that is."""

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


class RandomFeatures(nn.Module):
    def __init__(self, features=256, classes=10):
        super().__init__()
        self.register_buffer("directions", 0.15 * torch.randn(64, features))
        self.hidden = nn.Linear(features, 64)
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        x = x.gather(1, torch.rand_like(x).argsort(1)) if self.training else x
        x = torch.sin(x @ self.directions)
        return self.head(torch.relu(self.hidden(x)))


model = RandomFeatures()
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
