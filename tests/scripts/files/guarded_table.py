# breast cancer, second try: MLP + BatchNorm
# (the notebook version got ~96 %, let's see whether the script agrees)
import random

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 7
EPOCHS = 5
BATCH = 32
LR = 2e-3


class TumorNet(nn.Module):
    """30 measurements in, one logit (benign?) out."""

    def __init__(self, n_features, hidden=64, p_drop=0.2):
        super().__init__()
        self.hidden1 = nn.Linear(n_features, hidden)
        self.norm1 = nn.BatchNorm1d(hidden)
        self.hidden2 = nn.Linear(hidden, hidden // 2)
        self.norm2 = nn.BatchNorm1d(hidden // 2)
        self.drop = nn.Dropout(p_drop)
        self.out = nn.Linear(hidden // 2, 1)

    def forward(self, x):
        x = self.drop(torch.relu(self.norm1(self.hidden1(x))))
        x = self.drop(torch.relu(self.norm2(self.hidden2(x))))
        return self.out(x)


def as_tensors(features, labels):
    return TensorDataset(torch.from_numpy(features.astype(np.float32)),
                         torch.from_numpy(labels.astype(np.float32)).unsqueeze(1))


if __name__ == "__main__":
    random.seed(SEED)
    np.random.seed(SEED)

    # ------------------------------------------------------------------ data
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.2, stratify=y, random_state=SEED)
    print(f"{len(X_train)} for training, {len(X_val)} for validation, {100 * y.mean():.1f} % benign")

    scaler = StandardScaler().fit(X_train)
    X_train = scaler.transform(X_train)
    X_val = scaler.transform(X_val)

    train_loader = DataLoader(as_tensors(X_train, y_train), batch_size=BATCH, shuffle=True, drop_last=True)
    val_loader = DataLoader(as_tensors(X_val, y_val), batch_size=BATCH)

    # ----------------------------------------------------------------- model
    torch.manual_seed(SEED)
    model = TumorNet(X.shape[1])
    print(model)
    print("weights:", sum(p.numel() for p in model.parameters()))

    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-4)

    # -------------------------------------------------------------- training
    loss_history = []
    val_history = []
    for epoch in range(EPOCHS):
        model.train()
        for xb, yb in train_loader:
            optimizer.zero_grad()
            y_pred = model(xb)
            loss = criterion(y_pred, yb)
            loss.backward()
            optimizer.step()
            loss_history.append(loss.item())

        # ------------------------------------------------------- validation
        model.eval()
        right, n, val_loss = 0, 0, 0.0
        with torch.no_grad():
            for xb, yb in val_loader:
                y_pred = model(xb)
                val_loss += criterion(y_pred, yb).item() * len(xb)
                right += ((y_pred > 0).float() == yb).sum().item()
                n += len(xb)
        val_history.append(right / n)
        recent = loss_history[-len(train_loader):]
        print(f"epoch {epoch + 1}/{EPOCHS}  train {sum(recent) / len(recent):.4f}  "
              f"val {val_loss / n:.4f}  acc {100 * right / n:.1f} %")

    best = int(np.argmax(val_history))
    print(f"best epoch: {best + 1} with {100 * val_history[best]:.1f} %")
    torch.save(model.state_dict(), "tumor_net.pt")
