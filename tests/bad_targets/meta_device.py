from parts import *

model = classifier().to("meta")
train_loader = batches_of()
loss_fn = nn.CrossEntropyLoss()
