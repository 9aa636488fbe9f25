from parts import *

model = classifier()
train_loader = ((x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16))
loss_fn = nn.CrossEntropyLoss()
