# -*- coding: utf-8 -*-
"""
Two moons with super-convergence: OneCycleLR, stepped after every batch.

    python one_cycle.py                # the usual run
    python one_cycle.py --max-lr 0.02  # a flatter cycle
"""
import argparse
import csv
import itertools

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_moons
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset


def moons(n_points, noise, seed):
    points, which = make_moons(n_points, noise=noise, random_state=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_points)
    points, which = points[order].astype("float32"), which[order]
    n_train = int(0.75 * n_points)
    centre, spread = points[:n_train].mean(axis=0), points[:n_train].std(axis=0)
    points = torch.from_numpy((points - centre) / spread)
    which = torch.from_numpy(which).long()
    return (TensorDataset(points[:n_train], which[:n_train]),
            TensorDataset(points[n_train:], which[n_train:]))


def mlp(sizes, p=0.05):
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(a, b))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(p)]
    return nn.Sequential(*layers)


class Recorder:
    """Keeps one row per step and writes them as a table in the end."""

    def __init__(self):
        self.rows = []

    def __call__(self, **values):
        self.rows.append(values)

    def mean(self, key, last):
        return sum(r[key] for r in self.rows[-last:]) / last

    def write(self, path):
        with open(path, "w", newline="") as f:
            w = csv.DictWriter(f, fieldnames=self.rows[0])
            w.writeheader()
            w.writerows(self.rows)


def train_epoch(net, loader, loss_fn, optimizer, scheduler, record):
    net.train()
    for points, which in loader:
        scores = net(points)
        loss = loss_fn(scores, which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])
        scheduler.step()


def error_rate(net, loader):
    net.eval()
    wrong = 0
    with torch.no_grad():
        for points, which in loader:
            wrong += (net(points).argmax(dim=1) != which).sum().item()
    return wrong / len(loader.dataset)


def run(opt):
    torch.manual_seed(opt.seed)
    train_set, valid_set = moons(1600, noise=0.2, seed=opt.seed)
    train_dl = DataLoader(train_set, batch_size=opt.bs, shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_set, batch_size=2 * opt.bs)

    net = mlp([2, 64, 64, 2])
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=opt.max_lr / 25, momentum=0.9, weight_decay=1e-4)
    scheduler = OneCycleLR(optimizer, max_lr=opt.max_lr, epochs=opt.epochs, steps_per_epoch=len(train_dl))

    record = Recorder()
    for epoch in range(opt.epochs):
        train_epoch(net, train_dl, loss_fn, optimizer, scheduler, record)
        err = error_rate(net, valid_dl)
        print("{:>3}  loss {:.4f}  error {:5.2f}%  lr {:.5f}".format(
            epoch, record.mean("loss", len(train_dl)), 100 * err, record.rows[-1]["lr"]))
    record.write("one_cycle.csv")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--bs", type=int, default=24)
    p.add_argument("--max-lr", type=float, default=0.1)
    p.add_argument("--seed", type=int, default=5)
    run(p.parse_args())
