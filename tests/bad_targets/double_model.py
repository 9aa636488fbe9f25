from parts import *

model = classifier().double()
train_loader = batches_of(x.double())
loss_fn = nn.CrossEntropyLoss()
