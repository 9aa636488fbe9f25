from parts import *

from dataclasses import dataclass


@dataclass
class Batch:
    image: torch.Tensor
    label: torch.Tensor


model = classifier()
train_loader = [Batch(x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16)]
loss_fn = nn.CrossEntropyLoss()
