import sys

sys.path.append(__file__.rpartition("a [bold]")[0])
from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
