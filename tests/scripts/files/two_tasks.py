"""One trunk, two heads: which digit is it (one data set), and where does its ink lie (another data set)?"""
import argparse
import time

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--place_weight", type=float, default=0.5)
    return p.parse_args()


def make_loaders(batch):
    raw = load_digits()
    images = torch.tensor(raw.images, dtype=torch.float32)
    digit = torch.tensor(raw.target)
    # centre of the ink, rows and columns
    grid = torch.arange(8, dtype=torch.float32)
    ink = images.sum((1, 2))
    place = torch.stack([(images.sum(2) * grid).sum(1) / ink, (images.sum(1) * grid).sum(1) / ink], dim=1)

    order = torch.randperm(len(images))
    held, rest = order[:357], order[357:]
    part_a, part_b = rest[: len(rest) // 2], rest[len(rest) // 2:]
    x = ((images - images[rest].mean()) / images[rest].std()).unsqueeze(1)
    place = (place - place[rest].mean(0)) / place[rest].std(0)

    train = {
        "digit": DataLoader(TensorDataset(x[part_a], digit[part_a]), batch, shuffle=True, drop_last=True),
        "place": DataLoader(TensorDataset(x[part_b], place[part_b]), batch, shuffle=True, drop_last=True),
    }
    valid = {
        "digit": DataLoader(TensorDataset(x[held], digit[held]), 128),
        "place": DataLoader(TensorDataset(x[held], place[held]), 128),
    }
    return train, valid


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 16, 64), nn.ReLU(),
        )
        self.heads = nn.ModuleDict({"digit": nn.Linear(64, 10), "place": nn.Linear(64, 2)})

    def forward(self, x, task):
        return self.heads[task](self.trunk(x))


class Average:
    def __init__(self):
        self.total, self.n = 0.0, 0

    def add(self, value, n=1):
        self.total += value * n
        self.n += n

    @property
    def value(self):
        return self.total / max(1, self.n)


@torch.no_grad()
def validate(model, loaders):
    model.eval()
    accuracy, error = Average(), Average()
    for x, y in loaders["digit"]:
        accuracy.add((model(x, "digit").argmax(1) == y).float().mean().item(), len(y))
    for x, y in loaders["place"]:
        error.add((model(x, "place") - y).pow(2).mean().item(), len(y))
    model.train()
    return accuracy.value, error.value


def main():
    args = parse()
    torch.manual_seed(77)
    loaders, valid_loaders = make_loaders(args.batch)
    model = TwoHeads()
    ce, mse = nn.CrossEntropyLoss(), nn.MSELoss()
    optimizer = torch.optim.Adam([
        {"params": model.trunk.parameters()},
        {"params": model.heads.parameters(), "lr": 2 * args.lr},
    ], lr=args.lr)

    for epoch in range(args.epochs):
        start = time.time()
        losses = {"digit": Average(), "place": Average()}
        for (xa, ya), (xb, yb) in zip(loaders["digit"], loaders["place"]):
            loss_digit = ce(model(xa, "digit"), ya)
            loss_place = mse(model(xb, "place"), yb)
            loss = loss_digit + args.place_weight * loss_place
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses["digit"].add(loss_digit.item(), len(ya))
            losses["place"].add(loss_place.item(), len(yb))
        acc, err = validate(model, valid_loaders)
        print(f"{epoch:3d}: digit {losses['digit'].value:.3f} place {losses['place'].value:.3f} | "
              f"accuracy {acc:.3f} place error {err:.3f} | {time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
