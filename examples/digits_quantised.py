"""Digits through a code of small integers; a straight-through estimator lets gradients pass the rounding."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

digits = load_digits()
pixels = torch.tensor(digits.data, dtype=torch.float32) / 16 - 0.3
labels = torch.tensor(digits.target)
train_loader = DataLoader(TensorDataset(pixels[:1500], labels[:1500]), batch_size=50, shuffle=True)
val_loader = DataLoader(TensorDataset(pixels[1500:], labels[1500:]), batch_size=297)


class QuantisedCode(nn.Module):
    def __init__(self, code=32, levels=4):
        super().__init__()
        self.levels = levels
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, code))
        self.decoder = nn.Sequential(nn.Linear(code, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x):
        code = self.levels * torch.tanh(self.encoder(x))
        code = code + (code.round() - code).detach()
        return self.decoder(code)


model = QuantisedCode()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def main(epochs=5):
    for epoch in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
