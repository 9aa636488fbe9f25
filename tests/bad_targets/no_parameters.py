from parts import *

model = nn.Flatten()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
