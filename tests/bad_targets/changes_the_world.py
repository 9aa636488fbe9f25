import os
import random

import torch

os.chdir("/")
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
random.seed(1)
from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
