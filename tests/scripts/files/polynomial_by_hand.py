#!/usr/bin/env python
"""
Fit a polynomial of degree 4 to noisy points. No torch.optim: the step is written out.
"""
from __future__ import print_function

from itertools import count

import torch
import torch.nn.functional as F

torch.manual_seed(1)

POLY_DEGREE = 4
LEARNING_RATE = 0.3
MAX_BATCHES = 400
W_target = torch.tensor([[1.5], [-2.0], [0.7], [1.1]])
b_target = torch.tensor([0.5])


def make_features(x):
    """Builds features i.e. a matrix with columns [x, x^2, x^3, x^4]."""
    x = x.unsqueeze(1)
    return torch.cat([x ** i for i in range(1, POLY_DEGREE + 1)], 1)


def f(x):
    """The function to be found."""
    return x.mm(W_target) + b_target


def poly_desc(W, b):
    """Creates a string description of a polynomial."""
    result = 'y = '
    for i, w in enumerate(W):
        result += '{:+.2f} x^{} '.format(w, i + 1)
    return result + '{:+.2f}'.format(b[0])


def get_batch(batch_size=32):
    """Builds a batch i.e. (x, f(x) + noise) pair."""
    x = make_features(torch.rand(batch_size) * 3 - 1.5)
    y = f(x) + 0.1 * torch.randn(batch_size, 1)
    # columns of about unit size
    return x / SCALE, y


SCALE = make_features(torch.tensor([1.5])) / 2.0

# Define model
fc = torch.nn.Linear(POLY_DEGREE, 1)
smoothed = None

for batch_idx in count(1):
    # Get data
    batch_x, batch_y = get_batch()

    # Reset gradients
    fc.zero_grad()

    # Forward pass
    output = F.smooth_l1_loss(fc(batch_x), batch_y)
    loss = output.item()

    # Backward pass
    output.backward()

    # Apply gradients
    with torch.no_grad():
        for param in fc.parameters():
            param -= LEARNING_RATE * param.grad

    smoothed = loss if smoothed is None else 0.95 * smoothed + 0.05 * loss
    if batch_idx % 50 == 0:
        print('batch {:4d}  loss {:.5f}'.format(batch_idx, smoothed))

    # Stop criterion
    if smoothed < 1e-3 or batch_idx >= MAX_BATCHES:
        break

with torch.no_grad():
    test_x, test_y = get_batch(512)
    residual = (fc(test_x) - test_y).pow(2).mean() / test_y.var()
print('Loss: {:.6f} after {} batches'.format(smoothed, batch_idx))
print('Share of the variance left on new points: {:.4f}'.format(residual))
print('==> Learned function:\t' + poly_desc((fc.weight / SCALE).view(-1), fc.bias))
print('==> Actual function:\t' + poly_desc(W_target.view(-1), b_target))
