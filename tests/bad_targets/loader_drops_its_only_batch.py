from parts import *

model = classifier()
train_loader = batches_of(x[:8], y[:8], drop_last=True)
loss_fn = nn.CrossEntropyLoss()
