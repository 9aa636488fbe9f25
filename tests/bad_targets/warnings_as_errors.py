from parts import *

import warnings

warnings.simplefilter("error")
model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
