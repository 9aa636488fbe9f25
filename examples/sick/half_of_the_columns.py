# twin: diabetes_regression.py
# fault: a slice leaves half of the columns out
# expect: input-dependency
"""Disease progression one year on (scikit-learn's diabetes data): tabular regression, inputs and target standardised."""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

data = load_diabetes()
features = torch.tensor(data.data, dtype=torch.float32)
target = torch.tensor(data.target, dtype=torch.float32)
x_train, x_val, y_train, y_val = train_test_split(features, target, test_size=0.2, random_state=0)

mean, std = x_train.mean(0), x_train.std(0)
x_train, x_val = (x_train - mean) / std, (x_val - mean) / std
y_mean, y_std = y_train.mean(), y_train.std()
y_train, y_val = (y_train - y_mean) / y_std, (y_val - y_mean) / y_std

train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)
val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=128)


class Regressor(nn.Module):
    def __init__(self, inputs=10, hidden=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        hidden = self.body(x * (torch.arange(10) < 5))
        return self.out(hidden).squeeze(1)


model = Regressor()
loss_fn = nn.MSELoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)


def main(epochs=20):
    for epoch in range(epochs):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            explained = 1 - loss_fn(model(x_val), y_val) / y_val.var()
        print(f"epoch {epoch}: validation R2 {explained:.3f}")


if __name__ == "__main__":
    main()
