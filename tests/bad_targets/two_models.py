from parts import *

net_a = classifier()
net_b = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
