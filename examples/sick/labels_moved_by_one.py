# twin: digits_mlp.py
# fault: the validation labels are moved on by one sample
# expect: generalization
"""Digits with a plain network whose depth is a parameter and whose activation has a hand-written backward pass."""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

data = load_digits()
pixels = torch.tensor(data.data, dtype=torch.float32)
pixels = (pixels - pixels.mean(0)) / (pixels.std(0) + 1e-2)  # corner pixels are never inked: their spread is 0
labels = torch.tensor(data.target)
train_loader = DataLoader(TensorDataset(pixels[:1500], labels[:1500]), batch_size=50, shuffle=True)
val_loader = DataLoader(TensorDataset(pixels[1500:], labels[1500:].roll(1)), batch_size=297)


class SwishFunction(torch.autograd.Function):
    """x * sigmoid(x), keeping only x for the backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return grad * (gate + x * gate * (1 - gate))


class MLP(nn.Module):
    def __init__(self, inputs=64, width=96, depth=3, classes=10):
        super().__init__()
        widths = [inputs] + [width] * depth
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.out = nn.Linear(width, classes)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = SwishFunction.apply(layer(x))
        return self.out(x)


net = MLP()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def main(epochs=5):
    for epoch in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
