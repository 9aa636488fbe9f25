from parts import *

model = classifier()
train_loader = 64
loss_fn = nn.CrossEntropyLoss()
