import copy
import json
import sys
from argparse import ArgumentParser

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

# ---------------------------------------------------------------------------- helpers


class EarlyStopping:
    """Stops when the validation loss has not improved for `patience` epochs; keeps the best weights."""

    def __init__(self, patience=3, min_delta=1e-4):
        self.patience = patience
        self.min_delta = min_delta
        self.best_loss = float("inf")
        self.best_epoch = -1
        self.best_weights = None
        self.counter = 0

    def step(self, val_loss, model, epoch):
        if val_loss < self.best_loss - self.min_delta:
            self.best_loss, self.best_epoch, self.counter = val_loss, epoch, 0
            self.best_weights = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            print(f"    no improvement for {self.counter} epoch(s)")
        return self.counter >= self.patience


def make_scheduler(name, optimizer, epochs):
    if name == "step":
        return lr_scheduler.StepLR(optimizer, step_size=max(1, epochs // 3), gamma=0.3)
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    if name == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=1)
    raise ValueError(name)


def make_loaders(batch_size):
    pixels, digits = load_digits(return_X_y=True)
    perm = np.random.permutation(len(pixels))
    pixels, digits = pixels[perm], digits[perm]
    n_train, n_val = 1200, 300
    mu = pixels[:n_train].mean(axis=0)
    sigma = pixels[:n_train].std(axis=0)
    sigma[sigma < 0.5] = 1.0  # pixels that are nearly always blank
    pixels = ((pixels - mu) / sigma).astype(np.float32)

    def part(a, b):
        return TensorDataset(torch.from_numpy(pixels[a:b]), torch.from_numpy(digits[a:b]))

    train_ds = part(0, n_train)
    val_ds = part(n_train, n_train + n_val)
    test_ds = part(n_train + n_val, None)
    train_dl = DataLoader(train_ds, batch_size, shuffle=True)
    val_dl = DataLoader(val_ds, 100, shuffle=False)
    test_dl = DataLoader(test_ds, 100, shuffle=False)
    return train_dl, val_dl, test_dl


class MLP(nn.Module):
    def __init__(self, d_in=64, d_hidden=128, d_out=10, p=0.3):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d_in, d_hidden), nn.ReLU(), nn.Dropout(p),
            nn.Linear(d_hidden, d_hidden), nn.ReLU(), nn.Dropout(p),
            nn.Linear(d_hidden, d_out),
        )
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                nn.init.zeros_(m.bias)
        nn.init.xavier_uniform_(self.net[-1].weight, gain=0.1)

    def forward(self, x):
        return self.net(x)


def run_validation(model, dl, criterion):
    model.eval()
    total_loss, total_hits, total = 0.0, 0, 0
    with torch.inference_mode():
        for x, y in dl:
            logits = model(x)
            total_loss += criterion(logits, y).item() * y.numel()
            total_hits += logits.argmax(dim=1).eq(y).sum().item()
            total += y.numel()
    return total_loss / total, total_hits / total


# ---------------------------------------------------------------------------- main

if __name__ == "__main__":
    ap = ArgumentParser()
    ap.add_argument("--epochs", type=int, default=12)
    ap.add_argument("--batch_size", type=int, default=48)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--sched", choices=["step", "cosine", "plateau"], default="plateau")
    ap.add_argument("--patience", type=int, default=3)
    ap.add_argument("--seed", type=int, default=0)
    hp = ap.parse_args()
    print("hyper-parameters:", json.dumps(vars(hp)), file=sys.stderr)

    np.random.seed(hp.seed)
    torch.manual_seed(hp.seed)

    train_dl, val_dl, test_dl = make_loaders(hp.batch_size)
    model = MLP()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=hp.lr)
    scheduler = make_scheduler(hp.sched, optimizer, hp.epochs)
    stopper = EarlyStopping(hp.patience)

    for epoch in range(1, hp.epochs + 1):
        model.train()
        sum_loss = 0.0
        for x, y in train_dl:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sum_loss += loss.item()
        train_loss = sum_loss / len(train_dl)

        val_loss, val_acc = run_validation(model, val_dl, criterion)
        if hp.sched == "plateau":
            scheduler.step(val_loss)
        else:
            scheduler.step()
        print(f"epoch {epoch:2d} | lr {optimizer.param_groups[0]['lr']:.5f} | train {train_loss:.4f} "
              f"| val {val_loss:.4f} | acc {val_acc:.2%}")
        if stopper.step(val_loss, model, epoch):
            print(f"early stop after epoch {epoch}")
            break

    model.load_state_dict(stopper.best_weights)
    test_loss, test_acc = run_validation(model, test_dl, criterion)
    print(f"best epoch {stopper.best_epoch} (val {stopper.best_loss:.4f}); test loss {test_loss:.4f}, acc {test_acc:.2%}")
    torch.save(model.state_dict(), "best_mlp.pth")
