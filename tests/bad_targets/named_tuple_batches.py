from parts import *

from collections import namedtuple

Batch = namedtuple("Batch", "image label")
model = classifier()
train_loader = [Batch(x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16)]
loss_fn = nn.CrossEntropyLoss()
