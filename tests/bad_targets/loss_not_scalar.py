from parts import *

model = classifier()
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss(reduction="none")
