from parts import *

model = classifier()
train_loader = [["a", "b"], ["c", "d"]]
loss_fn = nn.CrossEntropyLoss()
