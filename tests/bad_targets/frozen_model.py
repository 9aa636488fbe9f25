from parts import *

model = classifier().requires_grad_(False)
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
