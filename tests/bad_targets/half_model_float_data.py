from parts import *

model = classifier().half()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
