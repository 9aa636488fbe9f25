"""Predicts the price of a flat from a table. Plain csv, no pandas (the office machine has none)."""
import argparse
import csv
import logging
import random
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logger = logging.getLogger(__name__)

TARGET = "price"
IGNORED = ("id", "district")  # the district becomes one column per name instead


def read_table(path):
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    districts = sorted({row["district"] for row in rows})
    columns = [name for name in rows[0] if name not in IGNORED and name != TARGET]
    features = [
        [float(row[name]) for name in columns] + [float(row["district"] == d) for d in districts] for row in rows
    ]
    target = [[float(row[TARGET])] for row in rows]
    columns += [f"district={d}" for d in districts]
    return torch.tensor(features), torch.tensor(target), columns


class Standardizer:
    def fit(self, values):
        self.mean = values.mean(dim=0, keepdim=True)
        self.std = values.std(dim=0, keepdim=True).clamp_min(1e-6)
        return self

    def __call__(self, values):
        return (values - self.mean) / self.std

    def undo(self, values):
        return values * self.std + self.mean


def prepare(path, batch_size, val_fraction=0.25):
    features, target, columns = read_table(path)
    indices = list(range(len(features)))
    random.shuffle(indices)
    n_val = int(val_fraction * len(indices))
    val_idx, train_idx = indices[:n_val], indices[n_val:]

    scale_x = Standardizer().fit(features[train_idx])
    scale_y = Standardizer().fit(target[train_idx])
    x, y = scale_x(features), scale_y(target)
    train_loader = DataLoader(TensorDataset(x[train_idx], y[train_idx]), batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[val_idx], y[val_idx]), batch_size=batch_size)
    logger.info("%d rows, %d columns: %s", len(features), len(columns), ", ".join(columns))
    return train_loader, val_loader, scale_y


class PriceModel(nn.Module):
    def __init__(self, n_features, hidden=48, dropout=0.05):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(),
        )
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.layers(x))


def train(model, loader, optimizer, loss_fn):
    model.train()
    metrics = {"loss": 0.0, "grad_norm": 0.0}
    for x, y in loader:
        pred = model(x)
        loss = loss_fn(pred, y)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=5.0)
        optimizer.step()
        metrics["loss"] += loss.item() * len(x)
        metrics["grad_norm"] += grad_norm.item() * len(x)
    return {name: value / len(loader.dataset) for name, value in metrics.items()}


@torch.no_grad()
def evaluate(model, loader, loss_fn, scale_y):
    model.eval()
    preds, truth = [], []
    for x, y in loader:
        preds.append(model(x))
        truth.append(y)
    preds, truth = torch.cat(preds), torch.cat(truth)
    residual = ((preds - truth) ** 2).sum()
    spread = ((truth - truth.mean()) ** 2).sum()
    return {
        "loss": loss_fn(preds, truth).item(),
        "mae": (scale_y.undo(preds) - scale_y.undo(truth)).abs().mean().item(),
        "r2": (1 - residual / spread).item(),
    }


def pretty(metrics):
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    train_loader, val_loader, scale_y = prepare(args.table, args.batch_size)
    n_features = train_loader.dataset[0][0].numel()

    model = PriceModel(n_features)
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    history = []
    for epoch in range(args.epochs):
        train_metrics = train(model, train_loader, optimizer, loss_fn)
        val_metrics = evaluate(model, val_loader, loss_fn, scale_y)
        history.append({"epoch": epoch, **{f"val_{k}": v for k, v in val_metrics.items()}})
        logger.info("epoch %02d  train: %s  |  val: %s", epoch, pretty(train_metrics), pretty(val_metrics))

    with open("history.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=history[0])
        writer.writeheader()
        writer.writerows(history)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, default=Path(__file__).with_name("flats.csv"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=17)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(parser.parse_args())
