from parts import *

model = classifier().half()
train_loader = batches_of(x.half())
loss_fn = nn.CrossEntropyLoss()
