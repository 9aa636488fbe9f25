from parts import *

model = classifier()
train_loader = [(["a sentence"] * 16, y[:16]), (["another"] * 16, y[:16])]
loss_fn = nn.CrossEntropyLoss()
