"""A small image classifier with one planted fault: `nncheck run nncheck_demo.py` finds it.

The fault: the network ends in a softmax, and the loss applies another one (look for FAULT below).
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def bars(count: int) -> TensorDataset:
    """Noisy 12 x 12 images of one bright bar; the class says in which third it lies, and whether it lies or stands."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (count,), generator=generator)
    images = 0.3 * torch.randn(count, 1, 12, 12, generator=generator)
    for image, label in zip(images, labels, strict=True):
        start = 4 * (int(label) % 3) + int(torch.randint(3, (1,), generator=generator))
        if label < 3:
            image[0, start : start + 2] += 2.0
        else:
            image[0, :, start : start + 2] += 2.0
    return TensorDataset(images, labels)


torch.manual_seed(0)
train_loader = DataLoader(bars(768), batch_size=64, shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(288, 6),
    nn.Softmax(dim=1),  # FAULT: CrossEntropyLoss expects logits; take this line out
)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
