"""A healthy script with two loaders, a validation and a schedule: what the tests of the loop's checks edit, one line at a time."""

from __future__ import annotations

from pathlib import Path

from tests.capture.asking import Asked, ask

TRAIN = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(160, 10)
y = (x @ torch.randn(10, 3)).argmax(1)
train_loader = DataLoader(TensorDataset(x[:96], y[:96]), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(x[96:], y[96:]), batch_size=32)
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
epochs = 8
for epoch in range(epochs):
    model.train()
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    scheduler.step()
    model.eval()
    hits = 0
    with torch.no_grad():
        for inputs, labels in val_loader:
            hits += (model(inputs).argmax(1) == labels).sum().item()
    print(epoch, hits / len(val_loader.dataset))
"""


def edited(*edits: tuple[str, str], text: str = TRAIN) -> str:
    """The script with each old text, which stands in it exactly once, replaced."""
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def loop_findings(text: str, folder: Path) -> list[str]:
    """The findings of all checks of the loop, in the order in which they are told."""
    return ask(text, folder, checks=("loop",)).findings


def asked(text: str, folder: Path, id: str) -> Asked:
    """One check of the loop asked about a script."""
    return ask(text, folder, checks=(id,))
