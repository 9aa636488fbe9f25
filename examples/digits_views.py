"""Codes of digits, learned without labels: two noisy views of a digit are pulled together, different digits held apart."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

data = load_digits()
pixels = torch.tensor(data.data, dtype=torch.float32)
pixels = (pixels - pixels.mean()) / pixels.std()
views = [pixels + 0.3 * torch.randn_like(pixels) for _ in range(2)]
train_loader = DataLoader(TensorDataset(*views), batch_size=64, shuffle=True)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def spread(codes):
    """How far the codes of a batch fall short of a standard deviation of 1."""
    return F.relu(1 - (codes.var(0) + 1e-4).sqrt()).mean()


def training_step(model, batch):
    one, other = model(batch[0]), model(batch[1])
    return F.mse_loss(one, other) + spread(one) + spread(other)


def main(epochs=5):
    for epoch in range(epochs):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
