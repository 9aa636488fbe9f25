from parts import *

model = classifier()
train_loader = [None, None]
loss_fn = nn.CrossEntropyLoss()
