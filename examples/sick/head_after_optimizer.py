# twin: digits_finetune.py
# fault: the head is replaced after the optimizer was made: the new head never learns
# expect: optimizer-coverage
"""A network made for ten digits gets a new head and learns odd against even; its features go on learning, slower."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
parity = torch.tensor(digits.target % 2)
train_loader = DataLoader(TensorDataset(images[:1500], parity[:1500]), batch_size=50, shuffle=True)
val_loader = DataLoader(TensorDataset(images[1500:], parity[1500:]), batch_size=297)


class SmallNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU())
        self.fc = nn.Linear(32 * 4 * 4, classes)

    def forward(self, x):
        features = self.body(self.stem(x))
        return self.fc(features.flatten(1))


model = SmallNet(classes=10)
slow = [*model.stem.parameters(), *model.body.parameters()]
optimizer = torch.optim.AdamW([{"params": slow, "lr": 3e-4}, {"params": model.fc.parameters(), "lr": 1e-3}])
model.fc = nn.Linear(32 * 4 * 4, 2)
criterion = nn.CrossEntropyLoss()


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
