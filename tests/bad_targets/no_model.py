from parts import *

train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
