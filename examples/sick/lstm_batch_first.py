# twin: series_lstm.py
# fault: without batch_first the LSTM runs along the batch instead of along time
# expect: batch-mixing
"""Forecasting the next value of noisy seasonal series with an LSTM."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

STEPS = 24
time = torch.arange(STEPS + 1) / 12
phase = torch.rand(3000, 1) * 6.28
period = torch.rand(3000, 1) * 3 + 2
series = torch.sin(phase + period * time) + 0.1 * torch.randn(3000, STEPS + 1)
history, future = series[:, :-1, None], series[:, -1]  # (3000, 24, 1), (3000,)

train_loader = DataLoader(TensorDataset(history[:2500], future[:2500]), batch_size=50, shuffle=True)
val_loader = DataLoader(TensorDataset(history[2500:], future[2500:]), batch_size=500)


class Forecaster(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        states, _ = self.lstm(x)  # (batch, time, hidden)
        return self.head(states[:, -1]).squeeze(-1)


model = Forecaster()
criterion = nn.SmoothL1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def main(epochs=10):
    for epoch in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
