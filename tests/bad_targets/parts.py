"""What the targets beside this file share: a small sound classifier, of which each spoils one thing."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 8)
y = (x @ torch.randn(8, 4)).argmax(1)


def batches_of(inputs=x, labels=y, **options):
    return DataLoader(TensorDataset(inputs, labels), **{"batch_size": 16, "shuffle": True, **options})


def classifier(classes=4):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes))
