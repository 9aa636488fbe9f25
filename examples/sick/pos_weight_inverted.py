# twin: imbalanced_binary.py
# fault: pos_weight is positives over negatives, not negatives over positives
# expect: class-balance
"""A rare event (5 % of the samples): binary classification whose output starts at the log odds of the classes."""

import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

x, y = make_classification(
    n_samples=6000, n_features=20, n_informative=8, weights=[0.95], flip_y=0.0, class_sep=1.5, random_state=0
)
x = torch.tensor(x, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
train_loader = DataLoader(TensorDataset(x[:5000], y[:5000]), batch_size=128, shuffle=True)
val_loader = DataLoader(TensorDataset(x[5000:], y[5000:]), batch_size=500)

head = nn.Linear(32, 1)
model = nn.Sequential(
    nn.Linear(20, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 32),
    nn.ReLU(),
    head,
)
rate = y[:5000].mean()
nn.init.constant_(head.bias, torch.log(rate / (1 - rate)).item())

criterion = nn.BCEWithLogitsLoss(pos_weight=rate / (1 - rate))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def main(epochs=10):
    for epoch in range(epochs):
        for features, event in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(features), event)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
