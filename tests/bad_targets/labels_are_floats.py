from parts import *

model = classifier()
train_loader = batches_of(labels=y.float())
loss_fn = nn.CrossEntropyLoss()
