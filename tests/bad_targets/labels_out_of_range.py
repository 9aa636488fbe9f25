from parts import *

model = classifier()
train_loader = batches_of(labels=y + 1)
loss_fn = nn.CrossEntropyLoss()
