"""Train an autoencoder with a classifier on its code.

Usage: python direct_forward.py [--epochs N]

The encoder is only ever called as encoder.forward(x); the AE is reached through compute_loss / predict.
"""
import argparse
import collections

import numpy as np
import torch as th
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, random_split

Batch = collections.namedtuple("Batch", "pixels digit")


class Digits(th.utils.data.Dataset):
    def __init__(self):
        d = load_digits()
        self.pixels = (d.data.astype(np.float32) - 4.9) / 6.0
        self.digit = d.target.astype(np.int64)

    def __len__(self):
        return len(self.digit)

    def __getitem__(self, i):
        return self.pixels[i], self.digit[i]


def collate(items):
    pixels, digit = zip(*items)
    return Batch(th.as_tensor(np.stack(pixels)), th.as_tensor(np.array(digit)))


class Encoder(nn.Module):
    def __init__(self, n_code):
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(64, n_code)

    def forward(self, pixels):
        return th.tanh(self.fc2(self.drop(th.relu(self.fc1(pixels)))))


class Reader(nn.Module):
    """Has no forward of its own."""

    def __init__(self, n_code=16, weight=0.5):
        super().__init__()
        self.encoder = Encoder(n_code)
        self.decoder = nn.Sequential(nn.Linear(n_code, 64), nn.ReLU(), nn.Linear(64, 64))
        self.classifier = nn.Linear(n_code, 10)
        self.weight = weight

    def compute_loss(self, batch):
        code = self.encoder.forward(batch.pixels)
        ce = nn.functional.cross_entropy(self.classifier.forward(code), batch.digit)
        mse = nn.functional.mse_loss(self.decoder.forward(code), batch.pixels)
        return ce + self.weight * mse, {"ce": ce.item(), "mse": mse.item()}

    def predict(self, pixels):
        return self.classifier.forward(self.encoder.forward(pixels)).argmax(dim=-1)


def validate(reader, loader):
    reader.eval()
    wrong = n = 0
    with th.no_grad():
        for batch in loader:
            wrong += int((reader.predict(batch.pixels) != batch.digit).sum())
            n += len(batch.digit)
    reader.train()
    return wrong / n


def run(args):
    th.manual_seed(args.seed)
    everything = Digits()
    train_part, valid_part = random_split(everything, [0.8, 0.2])
    train_loader = DataLoader(train_part, args.bs, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_part, 128, collate_fn=collate)

    reader = Reader()
    optim = th.optim.RMSprop(reader.parameters(), lr=1e-3)
    print("error before training: %.1f %%" % (100 * validate(reader, valid_loader)))
    for epoch in range(args.epochs):
        terms = collections.Counter()
        for batch in train_loader:
            loss, parts = reader.compute_loss(batch)
            optim.zero_grad()
            loss.backward()
            optim.step()
            terms.update(parts)
        line = "  ".join("%s %.3f" % (k, v / len(train_loader)) for k, v in terms.items())
        print("[%d] %s  error %.1f %%" % (epoch, line, 100 * validate(reader, valid_loader)))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--bs", type=int, default=32)
    p.add_argument("--seed", type=int, default=11)
    run(p.parse_args())
